import { type FormEvent, useEffect, useId, useRef, useState } from 'react';
import { useParams } from 'react-router';
import type * as Y from 'yjs';

import { api, type Page } from '../api.ts';
import { bindTextarea } from '../coedit/bindTextarea.ts';
import { type SharedText, useSharedText } from '../coedit/useSharedText.ts';
import { Field } from '../components/Field.tsx';
import { publicAddress } from '../config.ts';
import { useSession } from '../session.tsx';
import { isSlug } from '../slug.ts';
import { NotFound } from './NotFound.tsx';

export default function Editor() {
  const { slug = '' } = useParams();
  // A page of another name is another editor, with nothing left of the one before.
  return isSlug(slug) ? <PageEditor key={slug} slug={slug} /> : <NotFound />;
}

function PageEditor({ slug }: { slug: string }) {
  const { token } = useSession();
  const shared = useSharedText(slug);
  const [published, setPublished] = useState<Page>();
  const [title, setTitle] = useState('');
  const [news, setNews] = useState<string>();
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    let current = true;
    loadOwnPage(token!, slug)
      .then((page) => {
        if (!current) return;
        setPublished(page);
        setTitle((typed) => typed || (page?.title ?? ''));
      })
      .catch((error: Error) => current && setProblem(error.message));
    return () => {
      current = false;
    };
  }, [token, slug]);

  async function publish(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setNews(undefined);
    setProblem(undefined);
    try {
      setPublished(await api.publish(token!, slug, { title, body: shared!.text.toString() }));
      setNews('Published.');
    } catch (error) {
      setProblem((error as Error).message);
    } finally {
      setBusy(false);
    }
  }

  return (
    <section>
      <title>{`${title || slug} · Folio`}</title>
      <form onSubmit={publish}>
        <div className="bar">
          <h1>Edit {slug}</h1>
          {shared && <Presence {...shared} />}
        </div>
        <Field
          label="Title"
          name="title"
          value={title}
          onChange={(event) => setTitle(event.target.value)}
          maxLength={200}
          required
        />
        {shared && <SharedTextarea label="Body" text={shared.text} />}
        {shared?.synced && published && <TakeOver text={shared.text} published={published.body} />}
        <div className="bar">
          <button type="submit" disabled={busy || !shared}>
            Publish
          </button>
          <p role="status" className="news">
            {news}
          </p>
          {published && <a href={publicAddress(slug)}>View published page</a>}
        </div>
        {problem && (
          <p role="alert" className="problem">
            {problem}
          </p>
        )}
      </form>
    </section>
  );
}

/** The page as it is published, if it is and is ours. */
async function loadOwnPage(token: string, slug: string): Promise<Page | undefined> {
  const own = await api.pages(token);
  return own.some((page) => page.slug === slug) ? api.page(slug) : undefined;
}

const CONNECTION = { connecting: 'Connecting…', connected: 'Connected', disconnected: 'Reconnecting…' };

function Presence({ connection, people }: SharedText) {
  return (
    <p role="status" aria-label="Co-editing" className={`presence ${connection}`}>
      {CONNECTION[connection]} · {people === 1 ? '1 person here' : `${people} people here`}
    </p>
  );
}

function SharedTextarea({ label, text }: { label: string; text: Y.Text }) {
  const id = useId();
  const textarea = useRef<HTMLTextAreaElement>(null);
  useEffect(() => bindTextarea(textarea.current!, text), [text]);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <textarea id={id} ref={textarea} rows={16} aria-describedby={`${id}-hint`} />
      <small id={`${id}-hint`} className="hint">
        Everybody who has this page open writes in this text. The owner publishes it.
      </small>
    </div>
  );
}

/** A page that was published without this editor: its text comes in when somebody asks for it, once. */
function TakeOver({ text, published }: { text: Y.Text; published: string }) {
  const [length, setLength] = useState(text.length);
  useEffect(() => {
    const changed = () => setLength(text.length);
    changed();
    text.observe(changed);
    return () => text.unobserve(changed);
  }, [text]);
  if (length > 0 || published === '') return null;
  return (
    <button type="button" className="plain" onClick={() => text.insert(0, published)}>
      Start from the published text
    </button>
  );
}
