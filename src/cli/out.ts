import { existsSync, lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { sep } from 'node:path';
import type { Command, OptionValues } from '@commander-js/extra-typings';
import { InputError } from '../errors.js';
import { openWhole, type WholeFile } from '../files/write.js';
import { writeResult } from '../terminal/output.js';

/**
 * `--out` and `--force`, for every command that writes: what exists is refused, before anything is computed, unless `--force`
 * replaces it; never is anything written over what the command reads.
 */

export interface OutRule {
  /** What is written where `--out` is not given; undefined: nothing. */
  byDefault?: string;
  /** Files and folders that the command reads. */
  inputs?: readonly (string | undefined)[];
  /** A folder is made, in which nothing but these names may be written over; absent: a file. */
  folder?: RegExp;
}

export interface OutFlags {
  out?: string;
  force?: boolean;
}

/** Where a command writes. */
export interface Out {
  path: string;
  /** `--out -`: to stdout. */
  stdout: boolean;
  replace: boolean;
}

/** Adds the two options; an action with them begins with {@link checkOut}. */
export function addOut<Arguments extends unknown[], Options extends OptionValues, Globals extends OptionValues>(
  command: Command<Arguments, Options, Globals>,
  flags: '--out <file>' | '--out <dir>' | '--out <path>',
  text: string,
) {
  return command.option(flags, text).option('--force', 'replace what is at --out');
}

/** As {@link addOut}, where there is no output without `--out`. */
export function requireOut<Arguments extends unknown[], Options extends OptionValues, Globals extends OptionValues>(
  command: Command<Arguments, Options, Globals>,
  flags: '--out <file>' | '--out <dir>',
  text: string,
) {
  return command.requiredOption(flags, text).option('--force', 'replace what is at --out');
}

/**
 * @returns where to write, which no longer stands in the way; undefined where the command is not to write
 * @throws InputError naming what would be lost
 */
export function checkOut(flags: OutFlags & { out: string }, rule?: OutRule): Out;
export function checkOut(flags: OutFlags, rule: OutRule & { byDefault: string }): Out;
export function checkOut(flags: OutFlags, rule?: OutRule): Out | undefined;
export function checkOut({ out, force = false }: OutFlags, { byDefault, inputs = [], folder }: OutRule = {}) {
  const path = out ?? byDefault;
  const refuse = (problem: string, fix: string) => {
    throw new InputError(problem, { at: { file: path, field: '--out' }, fix });
  };
  if (path === undefined) {
    if (force)
      throw new InputError('does nothing without --out', {
        at: { field: '--force' },
        fix: 'leave it out, or add --out',
      });
    return undefined;
  }
  if (path === '') refuse('is empty', 'name a file or folder');
  if (!folder && /[/\\]$/.test(path)) refuse('ends as a folder does', 'name a file');
  if (path === '-') {
    if (folder) refuse('is stdout, and several files are written', 'name a folder');
    if (force) refuse('is stdout, where nothing is replaced', 'leave --force out');
    return { path, stdout: true, replace: false };
  }
  if (isLinkToNothing(path)) refuse('is a link to nothing', 'remove it, or name another place');
  if (existsSync(path)) {
    for (const input of inputs)
      if (input !== undefined && existsSync(input) && holds(path, input))
        refuse(
          same(path, input) ? 'is read by this command' : `contains ${input}, which is read by this command`,
          'name another place: an input is never overwritten, not even with --force',
        );
    checkKind(path, folder, refuse);
    const empty = folder !== undefined && readdirSync(path).length === 0;
    if (!force && !empty)
      refuse('already exists', `name another ${folder ? 'folder' : 'file'}, or add --force to replace this one`);
  }
  return { path, stdout: false, replace: force };
}

/** A file that appears at its end, or stdout, which gets each line at once. */
export function openLines(out: Out): WholeFile {
  if (!out.stdout) return openWhole(out.path, out);
  return { append: writeResult, finish: () => {}, [Symbol.dispose]: () => {} };
}

/** What a process writes to, where another one writes for it. */
export const nowhere: Out = { path: '', stdout: false, replace: false };
export const noLines: WholeFile = { append() {}, finish() {}, [Symbol.dispose]() {} };

function checkKind(path: string, folder: RegExp | undefined, refuse: (problem: string, fix: string) => void): void {
  const found = statSync(path);
  if (folder === undefined) {
    if (found.isDirectory()) refuse('is a folder', 'name a file');
    // A device, or a pipe: to rename a file to its place would remove it.
    if (!found.isFile()) refuse('is neither a file nor a folder', 'write to stdout with --out -, and redirect that');
    return;
  }
  if (!found.isDirectory()) refuse('is a file', 'name a folder');
  const foreign = readdirSync(path).find((name) => !folder.test(name));
  if (foreign !== undefined)
    refuse(
      `already exists and holds ${foreign}, which this command does not write`,
      'name another folder: --force replaces only what an earlier call has left',
    );
}

/** It stands in the way of a new file as well. */
function isLinkToNothing(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink() && !existsSync(path);
  } catch {
    // Nothing is there, or something above it is no folder, which writing finds out.
    return false;
  }
}

/** Whether `outer` is `inner` or lies above it. */
function holds(outer: string, inner: string): boolean {
  const [above, below] = [realpathSync(outer), realpathSync(inner)];
  return same(outer, inner) || below.startsWith(above.endsWith(sep) ? above : above + sep);
}

/** One file under two names counts, and so do hard links. */
function same(first: string, second: string): boolean {
  const [a, b] = [statSync(first, { bigint: true }), statSync(second, { bigint: true })];
  return a.dev === b.dev && a.ino === b.ino;
}
