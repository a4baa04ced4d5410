import { expect, it } from 'vitest';
import { placeOf, refuseSeveral } from '../../src/distributed/place.js';
import { InputError } from '../../src/errors.js';

const plain = { RANK: '1', WORLD_SIZE: '4', LOCAL_RANK: '1', MASTER_ADDR: 'host', MASTER_PORT: '29500' };
const first = { ...plain, RANK: '0', LOCAL_RANK: '0' };

it('a process without the variables is alone, and so is the only one of a job', () => {
  expect(placeOf({})).toBeUndefined();
  // A cluster may say where the master would be.
  expect(placeOf({ MASTER_ADDR: 'host', MASTER_PORT: '1' })).toBeUndefined();
  expect(placeOf({ RANK: '0', WORLD_SIZE: '1' })).toBeUndefined();
  expect(placeOf({ WORLD_SIZE: '1' })).toBeUndefined();
});

it('reads the contract of torchrun', () => {
  expect(placeOf(plain)).toEqual({
    rank: 1,
    size: 4,
    localRank: 1,
    address: 'host',
    port: 29500,
    serves: false,
    job: '',
    interface: undefined,
  });
  expect(placeOf(first)?.serves).toBe(true);
  // A PyTorchJob sets no LOCAL_RANK.
  expect(placeOf({ ...first, LOCAL_RANK: undefined })?.localRank).toBe(0);
  const elastic = { TORCHELASTIC_USE_AGENT_STORE: 'True', TORCHELASTIC_RESTART_COUNT: '2', TORCHELASTIC_RUN_ID: 'job' };
  expect(placeOf({ ...first, ...elastic })).toMatchObject({ serves: false, job: 'job' });
  expect(placeOf({ ...plain, GLOO_SOCKET_IFNAME: 'eth1' })?.interface).toBe('eth1');
});

it('refuses several processes of a command for one by name', () => {
  const several = () => refuseSeveral('sweep', plain);
  expect(several).toThrow(InputError);
  expect(several).toThrow('field "WORLD_SIZE": is 4, and sweep is for one process');
  refuseSeveral('sweep', {});
  refuseSeveral('sweep', { WORLD_SIZE: '1' });
});

it.each([
  [{ RANK: undefined }, 'field "RANK": is not set, though RANK or WORLD_SIZE is'],
  [{ WORLD_SIZE: undefined }, 'field "WORLD_SIZE": is not set'],
  [{ MASTER_ADDR: '' }, 'field "MASTER_ADDR": is not set'],
  [{ MASTER_PORT: undefined }, 'field "MASTER_PORT": is not set'],
  [{ RANK: '4' }, 'field "RANK": is "4", not a whole number from 0 to 3\n  fix: number the processes'],
  [{ RANK: '-1' }, 'field "RANK": is "-1"'],
  [{ WORLD_SIZE: 'two' }, 'field "WORLD_SIZE": is "two"'],
  [{ WORLD_SIZE: '1.5' }, 'field "WORLD_SIZE": is "1.5"'],
  [{ LOCAL_RANK: '9' }, 'field "LOCAL_RANK": is "9"'],
  [{ MASTER_PORT: '70000' }, 'field "MASTER_PORT": is "70000", not a whole number from 1 to 65535'],
])('refuses %j by name', (changes, message) => {
  const read = () => placeOf({ ...plain, ...changes });
  expect(read).toThrow(InputError);
  expect(read).toThrow(message);
});
