import { present } from '../errors.js';
import { ambiguityNames } from '../objective/ambiguity.js';
import { weightingNames } from '../objective/group-weights.js';
import { parseMethod } from '../objective/method-name.js';
import { type PairLossName, pairLossNames } from '../objective/pairs.js';

/**
 * Colours a colour-blind reader can tell apart (Okabe and Ito, 2008), in the order groups take them. Yellow comes last
 * because it is faint on white.
 */
const OKABE_ITO = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#F0E442'] as const;

/** Guides, bounds and other lines that are no measurement. */
export const GREY = '#666666';

/** Methods keep one colour in every figure of every report, whichever of them a report holds. */
const METHODS: ReadonlyMap<string, string> = new Map([
  ['sft', '#000000'],
  ['dpo', '#56B4E9'],
  ['is-dpo', '#009E73'],
  ['gr-dpo', '#CC79A7'],
  ['ipo', '#0072B2'],
  ['is-ipo', '#E69F00'],
  ['gr-ipo', '#D55E00'],
]);

/** A colour for each name by its place in `names`; a report passes the same list to all its figures. */
export function groupColours(names: readonly string[]): Map<string, string> {
  return new Map(names.map((name, index) => [name, present(OKABE_ITO[index % OKABE_ITO.length])]));
}

/** The colour of each method; methods not of the paper take colours that none of `methods` uses, as long as there are some. */
export function methodColours(methods: readonly string[]): Map<string, string> {
  const used = new Set(methods.map((method) => METHODS.get(method)));
  const free = OKABE_ITO.filter((colour) => !used.has(colour));
  const unknown = methods.filter((method) => !METHODS.has(method));
  return new Map(
    methods.map((method) => [method, METHODS.get(method) ?? (free[unknown.indexOf(method) % free.length] || GREY)]),
  );
}

/** The order in which reports list methods: by loss, then by weights, those that move after those that do not; names of the user's own come last. */
export function orderMethods(methods: Iterable<string>): string[] {
  const key = (method: string): readonly number[] => {
    const parts = parseMethod(method);
    if (parts === undefined) return [Number.POSITIVE_INFINITY];
    const { loss, weights, set } = parts;
    return [lossOrder.indexOf(loss), weightingNames.indexOf(weights), ambiguityNames.indexOf(set)];
  };
  return [...new Set(methods)].sort((a, b) => {
    const [first, second] = [key(a), key(b)];
    const at = first.findIndex((value, i) => value !== second[i]);
    return at < 0 ? (a < b ? -1 : 1) : present(first[at]) - present(second[at]);
  });
}

/** Supervised fine-tuning first, which others start from. */
const lossOrder = [...new Set<PairLossName>(['sft', ...pairLossNames])];

/** As the papers write them. */
const LOSS_TITLES: ReadonlyMap<string, string> = new Map([
  ['sft', 'SFT'],
  ['dpo', 'DPO'],
  ['ipo', 'IPO'],
  ['rdpo', 'rDPO'],
  ['simpo', 'SimPO'],
  ['orpo', 'ORPO'],
]);

/** `simpo` → `SimPO`; hinge, reward and unknown names are words, and stay. */
export function lossTitle(loss: string): string {
  return LOSS_TITLES.get(loss) ?? loss;
}

/** `gr-ipo` → `GR-IPO`, `is-simpo` → `IS-SimPO`, `max-hinge` → `MAX-hinge`; a name of the user's own stays. */
export function methodTitle(method: string): string {
  const parts = parseMethod(method);
  return parts === undefined ? method : method.slice(0, -parts.loss.length).toUpperCase() + lossTitle(parts.loss);
}
