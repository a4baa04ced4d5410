import { type Page, renderPage } from './html.js';
import type { Run } from './runs.js';
import { runsSection } from './sections/runs.js';

/** The page of `group-robust report`: the runs side by side, where they were made, and their configurations. */
export async function runsPage(runs: readonly Run[]): Promise<string> {
  const section = await runsSection(runs);
  return renderPage({
    title: 'Group robust preference optimisation: training runs',
    summary: 'Comparison of methods on the final test split and over training.',
    sections: [section],
    ...provenance(runs),
  });
}

/** Environment (what differs between runs is listed with all its values) and configurations of runs, for a page. */
export function provenance(runs: readonly Run[]): Pick<Page, 'environment' | 'config'> {
  const values = new Map<string, Set<string>>();
  for (const run of runs)
    for (const [name, value] of flatten(run.record)) values.set(name, (values.get(name) ?? new Set()).add(value));
  return {
    environment: Object.fromEntries([...values].map(([name, seen]) => [name, listed([...seen])])),
    config: runs.map((run) => ({ name: `${run.method}, seed ${run.seed}: ${run.folder}`, text: run.config })),
  };
}

/** All of a few values, the ends of many, such as the times at which runs were made. */
function listed(values: readonly string[]): string {
  if (values.length <= 3) return values.join('; ');
  const sorted = [...values].sort();
  return `${sorted[0]} … ${sorted[sorted.length - 1]} (${values.length} different)`;
}

/** `{versions: {node: "v20"}}` → `["versions node", "v20"]`; lists are joined. */
function flatten(record: Readonly<Record<string, unknown>>, prefix = ''): [string, string][] {
  return Object.entries(record).flatMap(([key, value]): [string, string][] => {
    if (value === null || value === undefined) return [];
    if (Array.isArray(value)) return [[prefix + key, value.join(', ')]];
    if (typeof value === 'object') return flatten(value as Record<string, unknown>, `${prefix}${key} `);
    return [[prefix + key, String(value)]];
  });
}
