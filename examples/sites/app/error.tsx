'use client';

export default function ErrorPage() {
  return (
    <article>
      <h1>This page cannot be shown right now</h1>
      <p>Please try again in a moment.</p>
    </article>
  );
}
