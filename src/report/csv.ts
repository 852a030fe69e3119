/** What a spreadsheet would take for a formula (OWASP, CSV injection). */
const RUN_BY_SPREADSHEETS = /^[=+\-@\t\r]/;

/** A line of CSV (RFC 4180) that no spreadsheet runs: a cell that begins as a formula does gets an apostrophe before it. */
export function csvLine(cells: readonly (string | number)[]): string {
  return `${cells.map(cellOf).join(',')}\r\n`;
}

function cellOf(cell: string | number): string {
  if (typeof cell === 'number') return String(cell);
  const text = RUN_BY_SPREADSHEETS.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
