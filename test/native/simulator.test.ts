import { expect, it } from 'vitest';
import { loadSimulator } from '../../src/native/simulator.js';

// Its own tests are left out where it is absent, as in a clone that is not built; in a build it must be there.
it('the simulator is built beside the addon, and loads', () => {
  const simulator = loadSimulator();
  expect(simulator).not.toBeNull();
  expect(simulator?.widths).toContain(2);
});
