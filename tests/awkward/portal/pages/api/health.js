export default function health(_request, response) {
  response.json({ ok: true });
}
