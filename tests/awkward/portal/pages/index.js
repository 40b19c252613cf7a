import Link from 'next/link';

export default function Home() {
  return (
    <main>
      <h1>Choose your company</h1>
      <Link href="/acme">Acme</Link>
    </main>
  );
}

export const getServerSideProps = () => ({ props: {} });
