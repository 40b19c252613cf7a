import type { Metadata } from 'next';
import { notFound } from 'next/navigation';

import { publishedPage } from '../../../lib/pages.ts';

interface Props {
  params: Promise<{ slug: string }>;
}

export async function generateMetadata({ params }: Props): Promise<Metadata> {
  const page = await publishedPage((await params).slug);
  return page ? { title: page.title, description: page.body.slice(0, 160) } : {};
}

export default async function PublishedPage({ params }: Props) {
  const page = await publishedPage((await params).slug);
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
