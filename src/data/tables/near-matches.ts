/** Up to five of `names` that look like `wanted`, best first: one holds the other, or few letters differ. */
export function nearMatches(wanted: string, names: readonly string[]): string[] {
  const target = wanted.trim().toLowerCase();
  if (target === '') return [];
  return names
    .map((name) => {
      const candidate = name.toLowerCase();
      const holds = candidate.includes(target) || target.includes(candidate);
      return { name, distance: holds ? 0 : editDistance(target, candidate) };
    })
    .filter(({ name, distance }) => distance <= Math.max(2, Math.floor(Math.max(name.length, target.length) / 3)))
    .sort((a, b) => a.distance - b.distance || a.name.localeCompare(b.name, 'en'))
    .slice(0, 5)
    .map(({ name }) => name);
}

/** Levenshtein distance: least number of letters inserted, deleted or replaced. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length];
}
