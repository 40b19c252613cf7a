export const metadata = { title: 'Page not found' };

export default function NotFound() {
  return (
    <article>
      <h1>Page not found</h1>
      <p>Nobody has published a page here yet.</p>
    </article>
  );
}
