import { constants } from 'node:os';
import { isMuted, sayError } from './terminal/output.js';

/**
 * Errors a user can act on. Every message says what is wrong, where, and what to do.
 *
 * The command line exits with 2 on an {@link InputError}, with 130 or 143 on an {@link InterruptedError}, with 1 on anything
 * else.
 */

/** Base of every error this package throws on purpose; `code` is stable and meant for programs. */
export class GroupRobustError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A job was asked to stop and has saved its work. */
export class InterruptedError extends GroupRobustError {
  /** 128 + the signal's number, as a shell says of a process that a signal has ended: 130 or 143. */
  readonly exitCode: number;

  constructor(message: string, signal: 'SIGINT' | 'SIGTERM') {
    super('INTERRUPTED', message);
    this.exitCode = 128 + constants.signals[signal];
  }
}

/** Where in the user's input the fault lies. `line` counts from 1, and so does `row`, for files without lines. */
export interface InputLocation {
  file?: string;
  line?: number;
  row?: number;
  field?: string;
  tensor?: string;
}

/** "pairs.jsonl:3, field "prompt"" */
export function placeOf(at: InputLocation): string {
  const where = [
    at.file && (at.line === undefined ? at.file : `${at.file}:${at.line}`),
    at.file === undefined && at.line !== undefined && `line ${at.line}`,
    at.row !== undefined && `row ${at.row}`,
    at.field && `field "${at.field}"`,
    at.tensor && `tensor "${at.tensor}"`,
  ];
  return where.filter(Boolean).join(', ');
}

/** The user's input (a file, a flag, a configuration) is at fault. `fix` says what to change. */
export class InputError extends GroupRobustError {
  readonly location: InputLocation;
  /** The message without place and fix. */
  readonly problem: string;
  readonly fix: string | undefined;

  constructor(problem: string, details: { at?: InputLocation; fix?: string; code?: string; cause?: unknown } = {}) {
    const at = details.at ?? {};
    const where = placeOf(at);
    super(
      details.code ?? 'INPUT',
      `${where === '' ? '' : `${where}: `}${problem}${details.fix ? `\n  fix: ${details.fix}` : ''}`,
      { cause: details.cause },
    );
    this.location = at;
    this.problem = problem;
    this.fix = details.fix;
  }

  /** This error, whose message also tells of `others`, found in the same input. */
  followedBy(others: readonly InputError[]): this {
    this.message = [this, ...others].map(({ message }) => message).join('\n');
    return this;
  }
}

/** `value`, which the code around knows to be there: an entry of a list that is not empty, a name that a map has. */
export function present<T>(value: T | undefined): T {
  if (value === undefined) throw new RangeError('an entry is missing that has to be there');
  return value;
}

/** What went wrong, of anything that may be thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Prints an error and sets the exit code; a stack trace only for what is not the user's doing. */
export function reportError(error: unknown): void {
  process.exitCode = error instanceof InputError ? 2 : error instanceof InterruptedError ? error.exitCode : 1;
  const text =
    error instanceof GroupRobustError
      ? error.message
      : error instanceof Error
        ? (error.stack ?? error.message)
        : String(error);
  // Of several processes that stop together, one says so.
  if (!(error instanceof InterruptedError && isMuted())) sayError(text);
}
