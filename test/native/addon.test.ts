import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { addonCandidates, loadNative } from '../../src/native/load.js';
import type {
  NativeBatch,
  NativeGemma,
  NativeGemmaConfig,
  NativeGemmaOptions,
  NativeTensorFile,
} from '../../src/native/types.js';
import { peftNames } from '../../src/policy/weight-names.js';
import { plainGemma } from './plain-gemma.js';

/**
 * How jobs behave, whatever they compute: order, errors, the event loop, the end of an environment; the end of a process at any
 * moment: test/soak.
 */

const BATCH: NativeBatch = {
  tokens: Int32Array.of(2, 5, 6, 7),
  promptLengths: Int32Array.of(2),
  responseCounts: Int32Array.of(1),
  responseLengths: Int32Array.of(2),
};
/** Big enough that filling it with random numbers takes some hundreds of milliseconds. */
const SLOW: NativeGemmaConfig = { ...plainGemma, hidden: 256, vocabulary: 64_000 };

const OPTIONS: NativeGemmaOptions = { device: 'cpu', dtype: 'float32', baseDtype: 'float32', recompute: false };

const native = loadNative();
const models: NativeGemma[] = [];
function make(config = plainGemma): NativeGemma {
  const model = new native.Gemma(config, OPTIONS);
  models.push(model);
  return model;
}
afterEach(() => {
  for (const model of models.splice(0)) model.dispose();
});

/** Runs a script of its own process to the end; `ADDON` is the path to require. `under`: a command that runs another. */
function script(
  text: string,
  under: string[] = [],
): Promise<{ code: number; stdout: string; stderr: string; seconds: number }> {
  const start = Date.now();
  const prelude = `const ADDON = ${JSON.stringify(addonCandidates()[0])}, plainGemma = ${JSON.stringify(plainGemma)}, SLOW = ${JSON.stringify(SLOW)}, OPTIONS = ${JSON.stringify(OPTIONS)};\n`;
  return new Promise((done) => {
    const [program, ...rest] = [...under, process.execPath, '-e', prelude + text];
    execFile(program, rest, { timeout: 50_000 }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : -1) : 0;
      done({ code, stdout, stderr, seconds: (Date.now() - start) / 1000 });
    });
  });
}

describe('errors', () => {
  it('rejects bad input with NATIVE_INPUT, naming the argument', async () => {
    const model = make();
    const names = peftNames(false);
    await model.randomize(1, 0.1);
    await expect(model.load('weights' as unknown as NativeTensorFile[], names)).rejects.toMatchObject({
      code: 'NATIVE_INPUT',
      message: expect.stringContaining('files'),
    });
    await expect(
      model.forward({ ...BATCH, tokens: [1] as unknown as Int32Array }, 'policy', false),
    ).rejects.toMatchObject({ code: 'NATIVE_INPUT', message: expect.stringContaining('batch.tokens') });
    const closed = { path: 'closed.safetensors', descriptor: 2 ** 31 - 1, entries: [] };
    await expect(model.load([closed], names)).rejects.toMatchObject({
      code: 'NATIVE_INPUT',
      message: expect.stringMatching(/^closed\.safetensors: cannot be used: /),
    });
  });

  it('throws NATIVE_INPUT from what is answered at once', () => {
    expect(() => native.setThreads(0)).toThrow(expect.objectContaining({ code: 'NATIVE_INPUT' }));
    expect(() => native.setThreads('two' as unknown as number)).toThrow(/setThreads count/);
    expect(() => new native.Gemma({ ...plainGemma, layers: 1.5 }, OPTIONS)).toThrow(
      expect.objectContaining({ code: 'NATIVE_INPUT', message: expect.stringContaining('config.layers') }),
    );
  });

  it('finishes queued jobs after dispose(), rejects later ones with DISPOSED', async () => {
    const model = make();
    const first = model.randomize(1, 0.1);
    const second = model.forward(BATCH, 'base', false);
    model.dispose();
    model.dispose();
    await first;
    expect(await second).toHaveLength(1);
    await expect(model.forward(BATCH, 'base', false)).rejects.toMatchObject({ code: 'DISPOSED' });
    expect(() => model.trainable()).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
  });
});

describe('queue', () => {
  it('runs jobs in the order of the calls, all at once or one by one', async () => {
    const model = make();
    const both = await Promise.all(
      [1, 2, 3, 4].flatMap((seed) => [model.randomize(seed, 0.1), model.forward(BATCH, 'base', false)]),
    );
    for (const seed of [1, 2, 3, 4]) {
      await model.randomize(seed, 0.1);
      expect(await model.forward(BATCH, 'base', false)).toEqual(both[2 * seed - 1]);
    }
  });

  it('copies its arguments: changing an array after the call changes nothing', async () => {
    const model = make();
    await model.randomize(1, 0.5);
    const tokens = Int32Array.from(BATCH.tokens);
    const before = await model.forward(BATCH, 'base', false);
    const pending = model.forward({ ...BATCH, tokens }, 'base', false);
    tokens.fill(9);
    expect(await pending).toEqual(before);
  });

  it('leaves the event loop and the pool of libuv free', async () => {
    const slow = Array.from({ length: 8 }, () => make(SLOW));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    let running = slow.length;
    const jobs = slow.map((model) => model.randomize(1, 0.1).then(() => running--));
    const start = Date.now();
    await readFile(fileURLToPath(import.meta.url));
    expect(running).toBe(slow.length);
    await Promise.all(jobs);
    clearInterval(timer);
    const expected = (Date.now() - start) / 10;
    expect(expected).toBeGreaterThan(10);
    expect(ticks).toBeGreaterThan(expected / 4);
  });
});

describe('process', () => {
  it('sets the number of threads', () => {
    const before = native.nativeInfo().threads;
    native.setThreads(1);
    expect(native.nativeInfo().threads).toBe(1);
    native.setThreads(before);
    expect(native.nativeInfo().threads).toBe(before);
  });

  it('counts live tensors back to where it started', async () => {
    await make().randomize(1, 0.1);
    models.splice(0)[0].dispose();
    // What is disposed is freed on the model's own thread, in its time.
    const settled = (count: number) => expect.poll(() => native.liveTensors(), { timeout: 10_000 }).toBe(count);
    await new Promise((done) => setTimeout(done, 500));
    const before = native.liveTensors();
    const model = make();
    await model.randomize(1, 0.1);
    const loaded = native.liveTensors();
    expect(loaded).toBeGreaterThan(before);
    await model.forward(BATCH, 'base', false);
    await settled(loaded);
    model.dispose();
    await settled(before);
  });

  it('ends by itself after its last job, though nothing was disposed', async () => {
    const { code, stdout, seconds } = await script(`
      const model = new (require(ADDON).Gemma)(plainGemma, OPTIONS);
      model.randomize(1, 0.1).then(() => console.log('done'));
    `);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'done\n' });
    expect(seconds).toBeLessThan(5);
  });

  it('stays alive while a job is pending', async () => {
    const { stdout } = await script(
      `new (require(ADDON).Gemma)(SLOW, OPTIONS).randomize(1, 0.1).then(() => console.log('done'))`,
    );
    expect(stdout).toBe('done\n');
  });

  it('may call process.exit() during a job', async () => {
    const { code, stderr } = await script(`
      const model = new (require(ADDON).Gemma)(SLOW, OPTIONS);
      for (let i = 0; i < 5; i++) model.randomize(i, 0.1);
      setTimeout(() => process.exit(7), 20);
    `);
    expect({ code, stderr }).toEqual({ code: 7, stderr: '' });
  });

  it('has one thread less as soon as a model is disposed of, though nobody collects it', async () => {
    const { code, stdout, stderr } = await script(`
      const { readdirSync } = require('node:fs');
      const { Gemma, KernelBench } = require(ADDON);
      const threads = () => readdirSync('/proc/self/task').length;
      const kept = [];
      (async () => {
        const warm = new Gemma(plainGemma, OPTIONS);
        await warm.randomize(1, 0.1);
        const before = threads();
        for (let i = 0; i < 200; i++) {
          kept.push(new Gemma(plainGemma, OPTIONS), new KernelBench());
          if (i % 2) await kept.at(-2).randomize(1, 0.1);
          for (const one of kept.slice(-2)) one.dispose();
          if (i % 20 === 19) {
            for (let wait = 0; wait < 100 && threads() > before; wait++) await new Promise((done) => setTimeout(done, 10));
            if (threads() > before) throw new Error(threads() + ' threads, and ' + before + ' at first');
          }
        }
        // Disposed, they answer as before.
        await kept[0].randomize(1, 0.1).catch(({ code }) => console.log(code));
      })();
    `);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'DISPOSED\n', stderr: '' });
  });

  it('that gets no more threads from the system says so, and goes on with what it has', async () => {
    const { code, stdout, stderr } = await script(
      `
      const { Gemma, KernelBench } = require(ADDON);
      const models = [];
      let fault;
      // The limit is on address space, of which the stack of each thread takes its part.
      while (!fault && models.length < 20_000)
        try {
          models.push(new Gemma(plainGemma, OPTIONS));
        } catch (error) {
          fault = error;
        }
      console.log(models.length > 3, fault?.code, fault?.message);
      try {
        new KernelBench();
      } catch (error) {
        console.log(error.code);
      }
      for (const model of models) model.dispose();
      setTimeout(async () => {
        const again = new Gemma(plainGemma, OPTIONS);
        await again.randomize(1, 0.1);
        console.log('again');
      }, 500);
    `,
      ['bash', '-c', 'ulimit -s 262144 -v 14000000; exec "$@"', 'bash'],
    );
    const said =
      /^true NATIVE the system gives no thread for one more model \(.*\): dispose of those .*\nNATIVE\nagain\n$/;
    expect({ code, stdout: said.test(stdout) ? 'said' : stdout, stderr }).toEqual({
      code: 0,
      stdout: 'said',
      stderr: '',
    });
  });

  it('loads in two worker threads that are terminated during jobs, 20 times', async () => {
    const { code, stdout, stderr } = await script(`
      const { Worker } = require('node:worker_threads');
      const text = \`
        const { parentPort, workerData } = require('node:worker_threads');
        const { Gemma } = require(workerData.ADDON);
        const model = new Gemma(workerData.SLOW, workerData.OPTIONS);
        for (let i = 0; i < 50; i++) model.randomize(i, 0.1).then(() => parentPort.postMessage('job'));
        parentPort.postMessage('started');
      \`;
      const once = (delay) => new Promise((done, fail) => {
        const worker = new Worker(text, { eval: true, workerData: { ADDON, OPTIONS, SLOW: { ...SLOW, vocabulary: 8000 } } });
        worker.on('error', fail);
        worker.on('message', (message) => {
          if (message === 'started') setTimeout(() => worker.terminate().then(done, fail), delay);
        });
      });
      (async () => {
        for (let i = 0; i < 20; i++) await Promise.all([once(5 + i), once(35 - i)]);
        // The main thread can still use it.
        await new (require(ADDON).Gemma)(plainGemma, OPTIONS).randomize(1, 0.1);
        console.log('survived', require(ADDON).liveTensors() > 0);
      })();
    `);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'survived true\n', stderr: '' });
  });

  it('collects models that nobody disposed, because V8 is told of their size', async () => {
    const { code, stdout } = await script(`
      const { Gemma } = require(ADDON);
      (async () => {
        let most = 0;
        // 16 MB each, 2.4 GB in all.
        for (let i = 0; i < 150; i++) {
          await new Gemma({ ...plainGemma, hidden: 64, vocabulary: 64000 }, OPTIONS).randomize(i, 0.1);
          most = Math.max(most, process.memoryUsage().rss);
        }
        console.log(most < 1.4e9);
      })();
    `);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'true\n' });
  });
});
