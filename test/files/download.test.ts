import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fetchWithin, saveBody } from '../../src/files/download.js';
import { temporaryFolder } from '../temporary-folder.js';

const folder = temporaryFolder();
const file = join(folder, 'file');
/** /stall sends half and then nothing; /rest sends the other half; /silent takes the request and says nothing. */
const server = createServer((request, response) => {
  if (request.url === '/rest') return response.end('World');
  if (request.url === '/silent') return undefined;
  response.writeHead(200, { 'content-length': 10 });
  response.write('Hello');
  return undefined;
});
const urlOf = (path: string) => `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
const get = (path: string) => fetchWithin(urlOf(path), {}, { answer: 2000, silence: 200 });

beforeAll(() => new Promise<void>((done) => server.listen(0, '127.0.0.1', done)));
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

/** Every way to wait for a server must end by itself: a test that waits longer fails. */
const soon = { timeout: 5000 };

it('gives a silent connection up, keeps what has come, and goes on from there', soon, async () => {
  const told: number[] = [];
  const onBytes = (bytes: number) => told.push(bytes);
  await expect(saveBody(await get('/stall'), file, onBytes)).rejects.toThrow('nothing has come for 0.2 s');
  expect(readFileSync(file, 'utf8')).toBe('Hello');
  expect(await saveBody(await get('/rest'), file, onBytes, 5)).toBe(10);
  expect(readFileSync(file, 'utf8')).toBe('HelloWorld');
  expect(told).toEqual([5, 10]);
});

it.each<[string, (response: Response) => Promise<unknown>]>([
  ['text', (response) => response.text()],
  ['JSON', (response) => response.json()],
  ['bytes', (response) => response.arrayBuffer()],
])('gives a silent connection up where its body is read as %s', soon, async (_, read) => {
  await expect(read(await get('/stall'))).rejects.toThrow('nothing has come for 0.2 s');
});

it('gives a server up that takes a request and does not answer', soon, () =>
  expect(get('/silent')).rejects.toThrow('no answer has come for 2 s'),
);

it('does not count the time that the reader takes', soon, async () => {
  const response = await get('/rest');
  await new Promise((done) => setTimeout(done, 400));
  expect(await response.text()).toBe('World');
});

it("still ends by the caller's own signal", soon, async () => {
  const own = new AbortController();
  const asked = fetchWithin(urlOf('/silent'), { signal: own.signal });
  own.abort(new Error('no longer wanted'));
  await expect(asked).rejects.toThrow('no longer wanted');
});

it('ends with what the listener throws, and the connection too', soon, async () => {
  const refusal = new Error('too much');
  const refuse = () => {
    throw refusal;
  };
  const closed = new Promise((done) => server.once('request', (request) => request.socket.once('close', done)));
  await expect(saveBody(await get('/stall'), file, refuse)).rejects.toBe(refusal);
  await closed;
});
