import { InputError } from '../../errors.js';
import { listNames, shortName } from '../../terminal/names.js';
import { parseNotation } from '../tables/notation.js';
import {
  checkCharacters,
  describeNameless,
  listOf,
  nameOf,
  type Row,
  type RowLocation,
  requireColumn,
} from '../tables/row.js';
import type { People } from './people.js';

/**
 * The columns that name groups: one; several, whose combinations are the groups, `country=x/sex=y`; or with `overlap` several of which each
 * has groups of its own, so that a pair is of `country=x` and of `sex=y`.
 */
export type GroupBy = readonly string[] | { readonly overlap: readonly string[] };

export function groupColumns(groupBy: GroupBy): readonly string[] {
  return 'overlap' in groupBy ? groupBy.overlap : groupBy;
}

/** What stands for {group} in a template: the name, or of a pair that is of several groups their names as those of a combination are written. */
export function groupText(names: readonly string[]): string {
  return names.join('/');
}

/** As a file has it: the name, or a list of several. */
export function groupValue(names: readonly string[]): string | readonly string[] {
  const [name, ...others] = names;
  return name === undefined || others.length > 0 ? names : name;
}

/** The names of the groups that the row is of: several where a column holds a list, or groups overlap. @throws InputError where a value cannot name one */
export function readGroups(
  row: Row,
  { groupOptional, people }: { groupOptional?: boolean; people?: People },
  groupBy: GroupBy,
): string[] {
  const fields = groupColumns(groupBy);
  const optional = groupOptional || fields.length === 0;
  if (optional && fields.every((field) => !row.columns.includes(field) && !people?.has(field))) return [''];
  const [first = '', ...others] = fields;
  if (others.length === 0) return someName(readNames(row, first, people).names, { ...row.at, field: first });
  const values = fields.map((field) => ({ field, ...readNames(row, field, people) }));
  if ('overlap' in groupBy) {
    const names = values.flatMap(({ field, names }) => names.map((name) => `${field}=${name}`));
    return someName(names, { ...row.at, field: fields.join(', ') });
  }
  const parts = values.map(({ field, names, isList, at }) => {
    if (!isList) return `${field}=${names[0]}`;
    throw new InputError(`is a list, and groups are the combinations of ${fields.join(', ')}`, {
      at: { ...at, field },
      fix: `give one name, or let the groups overlap (data.groupBy: { overlap: [${fields.join(', ')}] }; --group-by overlap:${fields.join(',')})`,
    });
  });
  return [parts.join('/')];
}

function someName(names: string[], at: RowLocation & { field: string }): string[] {
  if (names.length > 0) return names;
  throw new InputError('names no group', {
    at,
    fix: 'name one, such as "other" for all pairs of no group, or remove the pair',
  });
}

/** The names in a column of the pairs, or a field of the people. */
function readNames(
  row: Row,
  field: string,
  people: People | undefined,
): { names: string[]; isList: boolean; at: RowLocation } {
  const { value, at, untyped } = people?.has(field)
    ? people.field(row, field)
    : { value: row.values[field], at: row.at, untyped: row.untyped };
  const place = { ...at, field };
  const list = listOf(untyped && typeof value === 'string' ? unquoted(value, place) : value);
  const names = (list ?? [value]).map((entry, i) => {
    const name = nameOf(entry);
    if (name !== undefined) {
      checkCharacters(name, place);
      return name;
    }
    if (list) throw new InputError(`entry ${i} is ${describeNameless(entry)}, not the name of a group`, { at: place });
    if (people?.has(field))
      throw new InputError(`expected the name of a group, found ${describeNameless(value)}`, {
        at: place,
        fix: 'fill it in, or group by another field',
      });
    requireColumn(
      row,
      field,
      people
        ? `group by another column, or by a field of ${people.source.file} (${people.names.join(', ')})`
        : 'group by another column',
    );
    throw new InputError(`expected the name of a group, found ${describeNameless(value)}`, { at: place });
  });
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new InputError(`names "${shortName(twice)}" twice, in ${listNames(names)}`, {
      at: place,
      fix: 'name each group once',
    });
  return { names, isList: list !== undefined, at };
}

/** The list that a cell of CSV is, where it is one of quoted names: "[18, 25]" is a name. */
function unquoted(text: string, at: RowLocation & { field: string }): unknown {
  if (!/^\s*\[\s*(['"]|\]\s*$)/.test(text)) return text;
  try {
    return parseNotation(text);
  } catch (cause) {
    throw new InputError(`is not a list of names in JSON's or Python's notation: ${(cause as Error).message}`, {
      at,
      fix: 'write ["one", "other"]; a name that begins with [ and a quotation mark is read as a list',
      cause,
    });
  }
}
