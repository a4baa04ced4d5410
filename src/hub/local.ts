import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { InputError, type InputLocation } from '../errors.js';
import { refuseSpecial } from '../files/read.js';
import { checkpointCompanions, checkpointFiles, tokenizerNames, weightNames } from '../policy/checkpoint-files.js';
import { adapterFiles } from '../policy/peft.js';
import type { Selection } from './snapshot.js';

/** A folder or file on this machine, and where it came from. */
export interface Local {
  path: string;
  /** Set where it came from the hub: the id without revision, and the commit. */
  hub?: { id: string; commit: string };
}

export interface LocalOptions {
  /** No progress of downloads. */
  quiet?: boolean;
}

/**
 * The checkpoint folder of a model: a folder as it is; for an id such as `google/gemma-2b` or `google/gemma-2b@REVISION` the folder in
 * the hub's cache, downloaded if necessary; `random:…` as it is.
 * @throws InputError that says what to do
 */
export function localModel(model: string, options?: LocalOptions): Promise<Local> {
  return local('model', model, modelFiles, options);
}

/** As {@link localModel} for a PEFT adapter. */
export function localAdapter(adapter: string, options?: LocalOptions): Promise<Local> {
  return local('model', adapter, adapterSelection, options);
}

/** As {@link localModel} for a tokenizer alone; tokenizer.json itself may be named too. */
export function localTokenizer(tokenizer: string, options?: LocalOptions): Promise<Local> {
  return local('model', tokenizer, tokenizerSelection, options);
}

/** The CSV file of a data set named by its id, such as `Anthropic/llm_global_opinions`; the path of a file as it is. */
export async function localCsv(file: string, options?: LocalOptions): Promise<Local> {
  const { path, hub } = await local('dataset', file, csvSelection, options);
  return hub ? { path: join(path, csvOf(filesUnder(path), { file })), hub } : { path };
}

/** The folder with these files of a data set named by its id; a folder as it is. */
export function localFiles(folder: string, names: readonly string[], options?: LocalOptions): Promise<Local> {
  return local('dataset', folder, named(names, names.join(' and ')), options);
}

async function local(
  type: 'model' | 'dataset',
  text: string,
  selection: Selection,
  { quiet = false }: LocalOptions = {},
): Promise<Local> {
  refuseSpecial(text, { once: true });
  const [, name, revision = 'main'] = (existsSync(text) ? null : hubId.exec(text)) ?? [];
  if (name === undefined) return { path: text };
  const { hubSnapshot } = await import('./snapshot.js');
  const { folder, commit } = await hubSnapshot({ type, name, revision }, selection, quiet);
  return { path: folder, hub: { id: name, commit } };
}

/** "owner/name", and after "@" a branch, tag or commit. */
const hubId = /^([A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:@(\w[\w.-]*(?:\/\w[\w.-]*)*))?$/;

const modelFiles: Selection = {
  choose(paths, at) {
    const weights = weightNames(paths);
    if (weights.length === 0)
      throw new InputError('the repository has no weights as safetensors', {
        at,
        fix: 'use a model with model.safetensors or model.safetensors.index.json; .bin and .gguf files are not read',
      });
    return [...paths.filter((path) => checkpointCompanions.includes(path)), ...weights];
  },
  usable(folder) {
    try {
      checkpointFiles(folder);
      return existsSync(join(folder, 'config.json'));
    } catch {
      return false;
    }
  },
  optional: ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'],
};

const adapterSelection = named(
  Object.values(adapterFiles),
  'adapter_config.json and adapter_model.safetensors, as PEFT writes them',
);
const tokenizerSelection: Selection = {
  ...named(['tokenizer.json'], 'tokenizer.json'),
  choose: (paths, at) => [
    ...named(['tokenizer.json'], 'tokenizer.json').choose(paths, at),
    ...paths.filter((path) => tokenizerNames.includes(path)),
  ],
  optional: ['tokenizer_config.json'],
};

function named(names: readonly string[], what: string): Selection {
  return {
    choose(paths, at) {
      const missing = names.filter((name) => !paths.includes(name));
      if (missing.length === 0) return [...names];
      throw new InputError(`the repository has no ${missing.join(' and no ')}`, { at, fix: `name one with ${what}` });
    },
    usable: (folder) => names.every((name) => existsSync(join(folder, name))),
    optional: [],
  };
}

const csvSelection: Selection = {
  choose: (paths, at) => [csvOf(paths, at)],
  usable: (folder) => existsSync(folder) && filesUnder(folder).some((path) => path.endsWith('.csv')),
  optional: [],
};

function csvOf(paths: readonly string[], at: InputLocation): string {
  const found = paths.filter((path) => path.endsWith('.csv'));
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  throw new InputError(
    `the data set has ${found.length === 0 ? 'no CSV file' : `several CSV files: ${found.join(', ')}`}`,
    {
      at,
      fix: 'download the file you mean and name it',
    },
  );
}

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' });
}
