import { useState } from 'react';

export default function Tenant({ name, rest }) {
  const [clicks, setClicks] = useState(0);
  return (
    <main>
      <h1>{`Welcome to ${name}`}</h1>
      <p>{`Page ${rest || 'one'}`}</p>
      <button onClick={() => setClicks(clicks + 1)}>{clicks}</button>
    </main>
  );
}

export function getServerSideProps({ params: { path } }) {
  const [name, ...rest] = path;
  return { props: { name, rest: rest.join('/') } };
}
