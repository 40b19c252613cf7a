import type { Metadata } from 'next';
import { notFound } from 'next/navigation';

import { requestedPage } from '../lib/pages.ts';

export async function generateMetadata(): Promise<Metadata> {
  const page = await requestedPage();
  return page ? { title: page.title, description: page.body.slice(0, 160) } : {};
}

export default async function PublishedPage() {
  const page = await requestedPage();
  if (!page) notFound();
  return (
    <article>
      <h1>{page.title}</h1>
      <div className="body">{page.body}</div>
      <footer>
        Last changed on{' '}
        <time dateTime={page.updatedAt}>
          {new Date(page.updatedAt).toLocaleDateString('en', { dateStyle: 'long', timeZone: 'UTC' })}
        </time>
      </footer>
    </article>
  );
}
