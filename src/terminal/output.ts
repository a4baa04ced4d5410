import { printable } from './names.js';

/** Text on its way to a terminal: names from anyone's data may not command it. */

/** `text` with every character that a terminal would obey written out, line breaks and tabs but for. */
export function plainText(text: string): string {
  return text.replaceAll(/[^\n\t]+/g, printable);
}

/** What this process may print, where it is one of several: nothing but errors, behind this; not even those. */
let muted: { errors: string } | 'wholly' | undefined;

/** From now on only errors are printed: of several processes that do one job, one speaks for all. */
export function onlyErrors(prefix: string): void {
  muted = { errors: prefix };
}

/** From now on nothing is printed: the one that speaks for all says the same. */
export function silence(): void {
  muted = 'wholly';
}

/** Whether nothing but errors may be printed. */
export function isMuted(): boolean {
  return muted !== undefined;
}

/** Writes a line for people. All text for people goes this way; results for programs do not. */
export function say(stream: NodeJS.WritableStream, text: string): void {
  if (muted === undefined) stream.write(`${plainText(text)}\n`);
}

/** Writes an error, for people, to stderr. */
export function sayError(text: string): void {
  if (muted !== 'wholly') process.stderr.write(`${plainText(`${muted?.errors ?? ''}error: ${text}`)}\n`);
}

/** Whether whoever has read stdout has had enough (`| head`). */
let closed = false;

/** What goes wrong with stdout is told once, by no stack trace, and does not end work whose results go elsewhere. */
export function watchStdout(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (closed) return;
    closed = true;
    if (error.code === 'EPIPE') return;
    say(
      process.stderr,
      `error: stdout cannot be written: ${error.message}\n  fix: make room, or name a file with --out`,
    );
    process.exitCode = 1;
  });
  // There is nowhere left to say it.
  process.stderr.on('error', () => {});
}

/**
 * Writes what a program may read, as it is but on a terminal. Where nobody reads it any more, the command ends.
 */
export function writeResult(text: string | Uint8Array): void {
  if (isMuted()) return;
  if (closed) process.exit();
  process.stdout.write(process.stdout.isTTY && typeof text === 'string' ? plainText(text) : text);
}

export function warn(text: string): void {
  say(process.stderr, `warning: ${text}`);
}
