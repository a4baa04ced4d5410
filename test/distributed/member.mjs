/**
 * One process of a job that trains nothing: `node member.mjs COMMAND`, where the environment says which one it is.
 *  serve: keeps a store at MASTER_PORT, as a launcher's agent does, until it is killed
 *  meet: meets the others twice, one use after the other, and prints what all have brought
 *  wait: meets the others, says so, and waits to be killed
 *  fail: fails once all have met; refuse: as all others do; killed: is killed then; notice: is at the next exchange at once;
 *  busy: comes to it only after it has computed for long
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { together } from '../../dist/distributed/process-team.js';
import { GroupRobustError, reportError } from '../../dist/errors.js';
import { loadNative } from '../../dist/native/load.js';
import { NonFiniteError } from '../../dist/train/non-finite.js';

const { MASTER_PORT, RANK } = process.env;
const command = process.argv[2];

/** Longer than the others wait for whoever has not noticed. */
const busySeconds = 13;

const works = {
  async meet(team) {
    console.log((await team.gather(Float64Array.of(Number(RANK)))).map(([one]) => one).join());
  },
  async wait(team) {
    await team.gather(new Float64Array(0));
    console.log('met');
    await sleep(1e8);
  },
  async fail(team) {
    await team.gather(new Float64Array(0));
    throw new GroupRobustError('TEST', 'out of luck');
  },
  /** As where all find the same pairs, and rank 0 says where it was. */
  async refuse(team) {
    await team.gather(new Float64Array(0));
    throw new NonFiniteError('b.jsonl:3 is not finite', RANK === '0' ? { where: 'at the end', fix: 'look' } : {});
  },
  async killed(team) {
    await team.gather(new Float64Array(0));
    process.kill(process.pid, 'SIGKILL');
  },
  async notice(team) {
    await team.gather(new Float64Array(0));
    await team.gather(new Float64Array(0));
  },
  async busy(team) {
    await team.gather(new Float64Array(0));
    await sleep(1000 * busySeconds);
    await team.gather(new Float64Array(0));
  },
};

if (command === 'serve') {
  const peers = new (loadNative().Peers)();
  await peers.meet({ address: '127.0.0.1', port: Number(MASTER_PORT), serves: true, timeout: 60_000 });
  console.log('serves');
  await sleep(1e8);
} else {
  try {
    for (let use = 0; use < (command === 'meet' ? 2 : 1); use++) await together(30, works[command]);
  } catch (error) {
    reportError(error);
  }
}
