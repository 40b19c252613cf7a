import { Link } from 'react-router';

import { config } from '../config.ts';

export function Home() {
  return (
    <section className="hero">
      <title>Folio</title>
      <h1>Write it together. Publish it at its own address.</h1>
      <p>
        Open a page, send its link to whoever writes with you, and see each other type. When it is good, one click puts
        it at <code>your-page.{config.BASE_DOMAIN}</code>.
      </p>
      <Link className="button" to="/pages">
        Start writing
      </Link>
    </section>
  );
}
