import type { Attack } from './attack.js';

/** A test of a hundredth of the attack; main.ts does all of it. */
export function hundredth({ name, unit, full, run }: Attack) {
  const count = full / 100;
  return [
    `${name}: ${count} ${unit}`,
    { timeout: 1_800_000 },
    async () => console.info(name, await run(count, { seed: 1 })),
  ] as const;
}
