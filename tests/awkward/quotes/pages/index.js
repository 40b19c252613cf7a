import argon2 from 'argon2';
import proverbs from 'proverbs';

export async function getServerSideProps() {
  const all = proverbs.all();
  // argon2 is a native module: this says that it was loaded and works.
  const hash = await argon2.hash(all[0], { memoryCost: 1024, timeCost: 2, parallelism: 1 });
  return { props: { quote: all[0], count: all.length, verified: await argon2.verify(hash, all[0]) } };
}

export default function Home({ quote, count, verified }) {
  return (
    <main>
      <h1>{quote}</h1>
      <p>{`One of ${count}, ${verified ? 'verified' : 'not verified'}`}</p>
    </main>
  );
}
