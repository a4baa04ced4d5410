import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { saveBody } from '../src/download.js';

const folder = mkdtempSync(join(tmpdir(), 'download-'));
const file = join(folder, 'file');
/** /stall sends half and then nothing; /rest sends the other half. */
const server = createServer((request, response) => {
  if (request.url === '/rest') return response.end('World');
  response.writeHead(200, { 'content-length': 10 });
  response.write('Hello');
  return undefined;
});
const get = (path: string) => fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`);

beforeAll(() => new Promise<void>((done) => server.listen(0, '127.0.0.1', done)));
afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true });
});

it('gives a silent connection up, keeps what has come, and goes on from there', async () => {
  const told: number[] = [];
  const onBytes = (bytes: number) => told.push(bytes);
  await expect(saveBody(await get('/stall'), file, onBytes, { stallTimeout: 200 })).rejects.toThrow(
    'nothing has come for 0.2 s',
  );
  expect(readFileSync(file, 'utf8')).toBe('Hello');
  expect(await saveBody(await get('/rest'), file, onBytes, { from: 5 })).toBe(10);
  expect(readFileSync(file, 'utf8')).toBe('HelloWorld');
  expect(told).toEqual([5, 10]);
});

it('ends with what the listener throws', async () => {
  const refusal = new Error('too much');
  const refuse = () => {
    throw refusal;
  };
  await expect(saveBody(await get('/stall'), file, refuse)).rejects.toBe(refusal);
});
