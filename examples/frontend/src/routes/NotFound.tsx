import { Link } from 'react-router';

export function NotFound() {
  return (
    <section className="narrow">
      <title>Not found · Folio</title>
      <h1>Not found</h1>
      <p>
        There is nothing at this address. <Link to="/">Go to the start page</Link>
      </p>
    </section>
  );
}
