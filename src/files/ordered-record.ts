/** The keys of an object that has no others than its type says. */
export function keysOf<T extends object>(record: T): Extract<keyof T, string>[] {
  const keys: Extract<keyof T, string>[] = [];
  for (const key in record) keys.push(key);
  return keys;
}

/**
 * An object whose keys stay in the order of `entries`, in JSON too: those that look like whole numbers come first in any other.
 * It cannot be changed.
 */
export function orderedRecord<T>(entries: Iterable<readonly [string, T]>): Record<string, T> {
  const map = new Map(entries);
  const keys = [...map.keys()];
  // Object.fromEntries takes any name, "__proto__" included; of a frozen object a proxy may give the keys in any order.
  return new Proxy(Object.freeze(Object.fromEntries(map)), { ownKeys: () => keys });
}
