/**
 * Text from a device, a file or a server as it may go to a terminal or a log: control characters and others that would
 * move the cursor, colour or hide text are spelled out, and what is too long is cut.
 */
export function printable(text: string, maxChars = 200): string {
  const shown = text.replace(
    /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu,
    char => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`,
  );
  const chars = Array.from(shown); // never cut within a character
  return chars.length > maxChars ? `${chars.slice(0, maxChars - 1).join('')}…` : shown;
}
