/** The code of an error of the operating system or of a library (`ENOENT`, `SQLITE_BUSY`), for a message. */
export function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error';
}
