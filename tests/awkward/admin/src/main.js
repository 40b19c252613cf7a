import { h, render } from 'preact';
import './style.css';

const { NOTES_URL } = window.__CONFIG__;

function Administration() {
  return h('p', null, `This administers ${NOTES_URL}.`);
}

render(h(Administration), document.getElementById('app'));
