import { cleanNote, type Note } from '@notes/shared';
import express from 'express';
import mysql, { type ResultSetHeader, type RowDataPacket } from 'mysql2/promise';

const { DATABASE_URL, CLIENT_ORIGIN = 'http://localhost:5173', PORT = '4000' } = process.env;
if (!DATABASE_URL) throw new Error('DATABASE_URL is missing');

// Connects when it is first asked, and makes its table itself.
const pool = mysql.createPool({ uri: DATABASE_URL, connectionLimit: 3 });
const table = () =>
  pool.query('CREATE TABLE IF NOT EXISTS notes (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(200))');

const app = express();
app.use(express.json());

// It answers CORS by itself, for one client.
app.use((req, res, next) => {
  res.set({ 'Access-Control-Allow-Origin': CLIENT_ORIGIN, Vary: 'Origin' });
  if (req.method !== 'OPTIONS') return next();
  res.set({ 'Access-Control-Allow-Methods': 'GET,POST', 'Access-Control-Allow-Headers': 'Content-Type' });
  res.sendStatus(204);
});

app.get('/notes', async (_req, res) => {
  await table();
  const [notes] = await pool.query<(Note & RowDataPacket)[]>('SELECT id, text FROM notes ORDER BY id DESC LIMIT 50');
  res.json(notes);
});

app.post('/notes', async (req, res) => {
  const text = cleanNote(req.body?.text);
  if (!text) return void res.status(400).json({ error: 'a note has 1 to 200 characters' });
  await table();
  const [{ insertId }] = await pool.query<ResultSetHeader>('INSERT INTO notes (text) VALUES (?)', [text]);
  res.status(201).json({ id: insertId, text } satisfies Note);
});

// Everything else, `/` included, is for people with a password, and nobody has one.
app.use((_req, res) => {
  res.set('WWW-Authenticate', 'Basic').sendStatus(401);
});

// On every interface, as express does when nobody says otherwise.
app.listen(Number(PORT), () => console.log(`notes listen on ${PORT}`));
