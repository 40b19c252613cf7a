const KEY = 'folio.reloaded';
const AT_MOST_EVERY_MS = 10_000;

/**
 * A page that was opened before a deploy may ask for a script that is gone since.
 * Loading the page anew brings the new ones. Not twice in a row: then the script
 * is missing for another reason, and the error shows.
 */
export function reloadOnVanishedChunks(): void {
  window.addEventListener('vite:preloadError', (event) => {
    const last = Number(sessionStorage.getItem(KEY));
    if (Date.now() - last < AT_MOST_EVERY_MS) return;
    sessionStorage.setItem(KEY, String(Date.now()));
    event.preventDefault();
    window.location.reload();
  });
}
