#!/usr/bin/env node
// Part of the sources, so that npm and npx find the program before the first build and keep finding it afterwards.
import { existsSync } from 'node:fs';

const program = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(program)) {
  await import(program.href);
} else {
  process.stderr.write('error: group-robust is not built yet\n  fix: run npm run build in its checkout\n');
  process.exitCode = 1;
}
