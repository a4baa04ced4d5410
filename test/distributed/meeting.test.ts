import { once } from 'node:events';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { freePort, type StartedProcess, start } from './processes.js';

/** How processes find each other in a store that outlives them, and what they learn of each other while they are busy. */

const member = resolve('test/distributed/member.mjs');

const run = (command: string, port: number, variables: NodeJS.ProcessEnv) =>
  start(process.execPath, [member, command], { MASTER_ADDR: '127.0.0.1', MASTER_PORT: `${port}`, ...variables });

const printed = ({ child }: StartedProcess) => once(child.stdout!, 'data');

describe.concurrent('processes of a job', () => {
  it('meet in a store that holds an attempt before, whichever comes first and however nodes count restarts', async () => {
    const port = await freePort();
    const agent = run('serve', port, {});
    await printed(agent);
    const start = (command: string, rank: number, restarts: number) =>
      run(command, port, {
        TORCHELASTIC_USE_AGENT_STORE: 'True',
        TORCHELASTIC_RESTART_COUNT: `${restarts}`,
        RANK: `${rank}`,
        WORLD_SIZE: '2',
      });
    try {
      const before = [start('wait', 0, 0), start('wait', 1, 0)];
      await Promise.all(before.map(printed));
      for (const { child } of before) child.kill('SIGKILL');
      await Promise.all(before.map(({ ended }) => ended));
      // All that rank 1 would wait for is there already.
      const second = start('meet', 1, 0);
      await new Promise((done) => setTimeout(done, 1500));
      const first = start('meet', 0, 1);
      const ended = await Promise.all([first.ended, second.ended]);
      for (const { status, stdout, stderr } of ended)
        expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '0,1\n0,1\n', stderr: '' });
    } finally {
      agent.child.kill('SIGKILL');
    }
  });

  const job = async (...commands: string[]) => {
    const port = await freePort();
    const started = commands.map((command, rank) =>
      run(command, port, { RANK: `${rank}`, WORLD_SIZE: `${commands.length}` }),
    );
    return Promise.all(started.map(({ ended }) => ended));
  };

  it('learn of an error of rank 0 though they are busy until after its end', { timeout: 120_000 }, async () => {
    const [first, second] = await job('fail', 'busy');
    expect(first.stderr).toBe('error: out of luck\n');
    expect(second.stderr).toMatch(/^rank 1: error: rank 0 has stopped: out of luck\n/);
  });

  it('say once what all of them find', async () => {
    const [first, second] = await job('refuse', 'refuse');
    expect(first.stderr).toBe('error: at the end: b.jsonl:3 is not finite\n  fix: look\n');
    expect(second).toEqual({ status: 1, stdout: '', stderr: '' });
  });

  it('do not take one for lost that is busy, nor does that one those that have left', {
    timeout: 120_000,
  }, async () => {
    const [first, second, third] = await job('notice', 'killed', 'busy');
    expect(second.status).toBe(null);
    for (const { stderr } of [first, third]) expect(stderr).toContain('rank 1 of 3 processes is lost (');
  });

  it('are told that one cannot get ready', { timeout: 120_000 }, async () => {
    const port = await freePort();
    const began = Date.now();
    const [first, second] = await Promise.all(
      ['lo', 'none7'].map(
        (name, rank) => run('meet', port, { RANK: `${rank}`, WORLD_SIZE: '2', GLOO_SOCKET_IFNAME: name }).ended,
      ),
    );
    expect(second.stderr).toContain('none7 cannot be used');
    expect(first.stderr).toContain('rank 1 has stopped: field "GLOO_SOCKET_IFNAME": none7 cannot be used');
    expect(Date.now() - began).toBeLessThan(25_000);
  });
});
