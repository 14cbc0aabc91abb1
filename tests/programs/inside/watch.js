// fs.watch: one line per kind of change.
const fs = require('fs');
fs.mkdirSync('/tmp/watched');
const seen = new Set();
const watcher = fs.watch('/tmp/watched', (kind, name) => {
  if (seen.has(kind)) return;
  seen.add(kind);
  console.log(kind, name);
  if (kind === 'rename') fs.appendFileSync('/tmp/watched/made', 'more');
  if (seen.size === 2) watcher.close();
});
fs.writeFileSync('/tmp/watched/made', '');
