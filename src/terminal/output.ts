import { printable } from './names.js';

/** Text on its way to a terminal: names from anyone's data may not command it. */

/** `text` with every character that a terminal would obey written out, line breaks and tabs but for. */
export function plainText(text: string): string {
  return text.replaceAll(/[^\n\t]+/g, printable);
}

/** Writes a line for people. All text for people goes this way; results for programs do not. */
export function say(stream: NodeJS.WritableStream, text: string): void {
  stream.write(`${plainText(text)}\n`);
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
  if (closed) process.exit();
  process.stdout.write(process.stdout.isTTY && typeof text === 'string' ? plainText(text) : text);
}

export function warn(text: string): void {
  say(process.stderr, `warning: ${text}`);
}
