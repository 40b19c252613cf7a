const api = process.env.REACT_APP_API;
const [form, list] = [document.querySelector('form'), document.querySelector('ul')];

async function show() {
  const notes = await (await fetch(`${api}/notes`)).json();
  list.replaceChildren(...notes.map(({ text }) => Object.assign(document.createElement('li'), { textContent: text })));
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = new FormData(form).get('text');
  const headers = { 'Content-Type': 'application/json' };
  await fetch(`${api}/notes`, { method: 'POST', headers, body: JSON.stringify({ text }) });
  form.reset();
  await show();
});

void show();
