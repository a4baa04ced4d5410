import { InputError } from '../../errors.js';
import { counted } from '../../terminal/format.js';
import { shortName } from '../../terminal/names.js';
import {
  columnsAt,
  describeNameless,
  nameOf,
  type Row,
  type RowLocation,
  requireColumn,
  rowNumber,
} from '../tables/row.js';
import { readRows } from '../tables/rows.js';

/** Where the people are whose preferences the pairs are. */
export interface PeopleSource {
  /** JSONL, CSV or Parquet with a row for each person. */
  file: string;
  /** The column of this file and of the pairs that says who it is. */
  key: string;
}

interface Person {
  at: RowLocation;
  /** As of a {@link Row}. */
  untyped: boolean;
  /** Values of the fields, in their order. */
  values: unknown[];
}

/**
 * A table of people beside files of pairs: what it says of a person can group the pairs as if it stood in them. A field is a column, or what
 * is inside one that holds objects, `location.special_region`.
 */
export class People {
  private constructor(
    readonly source: PeopleSource,
    private readonly fields: readonly string[],
    /** All fields that there are, for messages. */
    readonly names: readonly string[],
    private readonly people: ReadonlyMap<string, Person>,
  ) {}

  /**
   * @param groupBy what the pairs are grouped by; names that are no field of a person are columns of the pairs
   * @param cluster the same of what they are clustered by, where they are
   * @throws InputError as {@link readAny}; where no name is a field
   */
  static async read(source: PeopleSource, groupBy: readonly string[], cluster?: string): Promise<People> {
    const clustered = cluster === undefined ? [] : [cluster];
    const people = await People.readAny(source, [...new Set([...groupBy, ...clustered])]);
    if (people.fields.length > 0) return people;
    const by = [`grouped by ${groupBy.join(', ')}`, ...clustered.map((column) => `clustered by ${column}`)].join(
      ' and ',
    );
    throw new InputError(`does nothing: pairs are ${by}, which it does not have`, {
      at: { file: source.file },
      fix: `group by one of its fields (${people.described}), or leave the people out`,
    });
  }

  /**
   * @param columnNames of which those that are no field of a person are columns of the pairs
   * @throws InputError naming file, line or row, and field; where a person stands there twice, with how many do
   */
  static async readAny(source: PeopleSource, columnNames: readonly string[]): Promise<People> {
    const { file, key } = source;
    const wanted = columnNames.filter((field) => field !== key);
    // Of a struct of Parquet the whole column is read.
    const columns = wanted.flatMap((field) => [field, ...heads(field)]);
    const people = new Map<string, Person>();
    const names = new Set<string>();
    const found = new Set<string>();
    const twice = new Map<string, RowLocation>();
    let keys = '';
    for await (const row of readRows(file, [...new Set([key, ...columns])])) {
      requireColumn(row, key, "name the column that says who it is, as in the pairs' file");
      const name = nameOf(row.values[key]);
      if (name === undefined)
        throw new InputError(`expected the name or number of a person, found ${describeNameless(row.values[key])}`, {
          at: { ...row.at, field: key },
          fix: 'fill it in, or remove the row',
        });
      if (people.has(name)) twice.set(name, twice.get(name) ?? row.at);
      // Rows mostly have the same columns.
      if (row.columns.join('\0') !== keys) {
        keys = row.columns.join('\0');
        for (const column of row.columns) for (const inner of namesIn(column, row.values[column])) names.add(inner);
      }
      const values = wanted.map((field) => valueAt(row.values, field));
      wanted.forEach((field, i) => {
        if (values[i] !== undefined || row.columns.includes(field)) found.add(field);
      });
      people.set(name, people.get(name) ?? { at: row.at, untyped: row.untyped, values });
    }
    if (people.size === 0) throw new InputError('holds no person', { at: { file } });
    for (const [name, at] of twice)
      throw new InputError(
        `"${shortName(name)}" stands there already, ${placeIn(people.get(name)?.at ?? at)}; ${
          twice.size === 1 ? '1 person has' : `${twice.size} people have`
        } more than one row, of ${people.size}`,
        { at: { ...at, field: key }, fix: 'leave one row for each person' },
      );
    const fields = wanted.filter((field) => found.has(field));
    const kept = wanted.map((field) => found.has(field));
    for (const person of people.values()) person.values = person.values.filter((_, i) => kept[i]);
    return new People(source, fields, [...names], people);
  }

  /** The fields that there are, for messages. */
  get described(): string {
    return this.names.filter((name) => name !== this.source.key).join(', ') || 'it has none';
  }

  /** Whether this column of the pairs stands here. */
  has(field: string): boolean {
    return this.fields.includes(field);
  }

  /**
   * What a field says of the person whose pair this is, and where.
   * @param row of somebody whom {@link known} has let through
   */
  field(row: Row, field: string): { value: unknown; at: RowLocation; untyped: boolean } {
    const person = this.people.get(nameOf(row.values[this.source.key]) ?? '');
    const { at, untyped } = person ?? row;
    return { value: person?.values[this.fields.indexOf(field)], at, untyped };
  }

  /**
   * The rows of pairs whose person is here.
   * @throws InputError where a row names nobody, where the pairs have a column of the same name as a field, and, after the last row, where
   * people are missing, with how many they are and have pairs
   */
  async *known(rows: AsyncIterable<Row>): AsyncGenerator<Row> {
    const { file, key } = this.source;
    const missing = new Map<string, RowLocation>();
    let without = 0;
    let all = 0;
    for await (const row of rows) {
      all++;
      requireColumn(row, key, 'name the column that says whose preference it is');
      const name = nameOf(row.values[key]);
      if (name === undefined)
        throw new InputError(`expected the name or number of a person, found ${describeNameless(row.values[key])}`, {
          at: { ...row.at, field: key },
          fix: 'fill it in, or remove the pair',
        });
      const both = this.fields.find((field) => row.columns.includes(field));
      if (both !== undefined)
        throw new InputError(`is a column of the pairs and of ${file}, so it is not known which is meant`, {
          at: { ...columnsAt(row), field: both },
          fix: 'rename it in one of the two',
        });
      if (this.people.has(name)) {
        yield row;
        continue;
      }
      without++;
      if (!missing.has(name)) missing.set(name, row.at);
    }
    for (const [name, at] of missing)
      throw new InputError(
        `"${shortName(name)}" is not in ${file}, which has ${counted(this.people.size, 'person', 'people')}; ${
          missing.size === 1 ? '1 person is' : `${missing.size} people are`
        } missing there, who made ${without} of ${counted(all, 'pair')} here`,
        { at: { ...at, field: key }, fix: 'add a row for each of them, or remove their pairs' },
      );
  }
}

function placeIn(at: RowLocation): string {
  return `${'line' in at ? 'on line' : 'in row'} ${rowNumber(at)}`;
}

/** What stands before each dot. */
function heads(field: string): string[] {
  const parts = field.split('.');
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('.'));
}

/** Of a column by its whole name, else of what is inside one; null where that is; undefined where there is nothing. */
function valueAt(values: unknown, field: string): unknown {
  if (typeof values !== 'object' || values === null || Array.isArray(values)) return undefined;
  if (Object.hasOwn(values, field)) return (values as Record<string, unknown>)[field];
  for (const head of heads(field))
    if (Object.hasOwn(values, head)) {
      const inner = valueAt((values as Record<string, unknown>)[head], field.slice(head.length + 1));
      if (inner !== undefined) return inner;
    }
  return undefined;
}

/** The column, or the fields of the objects in it. */
function namesIn(column: string, value: unknown): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) return [column];
  return Object.entries(value).flatMap(([name, inner]) => namesIn(`${column}.${name}`, inner));
}
