import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { present } from '../../errors.js';
import { Random } from '../../numbers/random.js';
import type { PromptTemplate } from '../pairs/prompt-template.js';
import { pythonRepr } from '../tables/python-literal.js';
import { parseSurvey } from './global-opinions.js';
import { type OpinionSummary, opinionPairs, writeOpinionPairs } from './opinion-pairs.js';
import { ROWS_PER_TOPIC, SURVEY_ROWS, TOPICS } from './survey-topics.js';

/**
 * A survey with known truth, in GlobalOpinionQA's own layout: five invented countries of unequal size, asked about many
 * topics in several ways. Each country has a latent stance on every topic. Four of them vary around a common stance;
 * the smallest takes the opposite side of most topics. How a training method copes with that is not decided here.
 */
export interface Country {
  name: string;
  /** Share of all (question, country) rows. */
  share: number;
}

export const SURVEY_COUNTRIES: readonly Country[] = [
  { name: 'Avaland', share: 0.28 },
  { name: 'Bremia', share: 0.24 },
  { name: 'Cordova', share: 0.2 },
  { name: 'Drumlin', share: 0.16 },
  { name: 'Elmark', share: 0.12 },
];

/** A way of asking. Options run from the most favourable answer to the least, or the other way round. */
interface Stem {
  text: (topic: string) => string;
  scale: string[];
  /** Whether the first option is the least favourable. */
  reversed?: boolean;
  /** A last option outside the scale, which few choose. */
  unsure?: string;
}

const STEMS: Stem[] = [
  { text: (topic) => `How much do you care about ${topic}?`, scale: ['Very much', 'Somewhat', 'Not at all'] },
  {
    text: (topic) => `Is ${topic} good or bad for the country?`,
    scale: ['Good', 'Neither', 'Bad'],
    unsure: 'Not sure',
  },
  {
    text: (topic) => `Do you agree to pay more for ${topic}?`,
    scale: ['Disagree', 'Neither', 'Agree'],
    reversed: true,
  },
  {
    text: (topic) => `What do you think of ${topic}?`,
    scale: ['Very favorable', 'Favorable', 'Unfavorable', 'Very unfavorable'],
  },
  {
    text: (topic) => `Should there be more or less of ${topic}?`,
    scale: ['Much less', 'Less', 'More', 'Much more'],
    reversed: true,
    unsure: 'Not sure',
  },
  { text: (topic) => `Would you vote for ${topic}?`, scale: ['Yes', 'No'], unsure: 'Not sure' },
  {
    text: (topic) => `Do you see a problem in ${topic}?`,
    scale: ['Very serious', 'Serious', 'Small', 'Not a problem'],
    reversed: true,
  },
  {
    text: (topic) => `How much do you trust plans for ${topic}?`,
    scale: ['A great deal', 'Some', 'Not much', 'Not at all'],
  },
  { text: (topic) => `Is ${topic} right or wrong?`, scale: ['Right', 'Neither', 'Wrong'], unsure: 'Not sure' },
  {
    text: (topic) => `How serious a problem is ${topic}?`,
    scale: ['Very serious', 'Fairly serious', 'Not serious'],
    reversed: true,
  },
  { text: (topic) => `Do you trust ${topic}?`, scale: ['A great deal', 'Some', 'Not at all'] },
  { text: (topic) => `Should the country pay for ${topic}?`, scale: ['No', 'Yes'], reversed: true, unsure: 'Not sure' },
  {
    text: (topic) => `Do you agree with ${topic}?`,
    scale: ['Agree', 'Neither', 'Disagree'],
  },
  {
    text: (topic) => `Is more ${topic} good or bad?`,
    scale: ['Very bad', 'Bad', 'Good', 'Very good'],
    reversed: true,
  },
  { text: (topic) => `Would you have ${topic} here?`, scale: ['Yes', 'No'] },
  {
    text: (topic) => `How favorable are you to ${topic}?`,
    scale: ['Not at all', 'Not much', 'Some', 'A great deal'],
    reversed: true,
  },
];

/** Every question is asked in each of these ways, so that there is enough data to learn a country's view of a topic. */
const FRAMINGS = ['', 'All in all, ', 'In your view, ', 'These days, ', 'As a rule, ', 'Speaking for yourself, '];

function framed(framing: string, question: string): string {
  return framing === '' ? question : framing + question.charAt(0).toLowerCase() + question.slice(1);
}

/** Options of a question as they are printed, and the favourability in [-1, 1] of those on the scale. */
function optionsOf(stem: Stem): { options: string[]; positions: number[] } {
  const last = stem.scale.length - 1;
  const positions = stem.scale.map((_, i) => (stem.reversed ? -1 : 1) * (1 - (2 * i) / last));
  return { options: stem.unsure ? [...stem.scale, stem.unsure] : [...stem.scale], positions };
}

export interface SurveyTruth {
  seed: number;
  countries: Country[];
  questions: {
    question: string;
    options: string[];
    topic: string;
    /** True share of each option, by country, whether or not the country was asked. */
    probabilities: Record<string, number[]>;
  }[];
}

export interface GeneratedSurvey {
  /** The survey as CSV: question, selections, options, source. */
  csv: string;
  truth: SurveyTruth;
}

/** Share of topics on which the smallest country takes the other side. */
const CONTESTED = 0.8;
/** Spread of a country's stance around the common one. */
const STANCE_NOISE = 0.2;
/** How narrowly answers gather around a country's stance. */
const SHARPNESS = 3;
/** People asked in each country; answers are counts out of these, so surveys differ a little from the truth. */
const RESPONDENTS = 1000;

/** @param options.rows (question, country) pairs in all, within {@link SURVEY_ROWS} */
export function generateSurvey(options: { seed: number; rows?: number }): GeneratedSurvey {
  const { seed, rows = SURVEY_ROWS.default } = options;
  if (rows < SURVEY_ROWS.min || rows > SURVEY_ROWS.max)
    throw new RangeError(`rows must be within ${SURVEY_ROWS.min} and ${SURVEY_ROWS.max}`);
  const random = (...purpose: (string | number)[]) => Random.stream(seed, 'survey', ...purpose);
  const smallest = SURVEY_COUNTRIES.length - 1;

  const topics = TOPICS.slice(0, Math.ceil(rows / ROWS_PER_TOPIC));
  const someTopics = (purpose: string, share: number) =>
    random(purpose).shuffle(topics.map((_, t) => t < Math.round(share * topics.length)));
  // Exactly half of the topics are liked and CONTESTED of them contested, so that seeds differ in which, not how many.
  const liked = someTopics('liked', 0.5);
  const contested = someTopics('contested', CONTESTED);
  const stances = topics.map((topic, t) => {
    const draw = random('stance', topic);
    const common = (liked[t] ? 1 : -1) * (0.5 + 0.5 * draw.uniform());
    const byCountry = SURVEY_COUNTRIES.map(
      (_, c) => (c === smallest && contested[t] ? -common : common) + STANCE_NOISE * draw.normal(),
    );
    return { topic, byCountry };
  });

  const questions = stances.flatMap(({ topic, byCountry }) =>
    FRAMINGS.flatMap((framing) => STEMS.map((stem) => ({ framing, stem }))).map(({ framing, stem }) => {
      const { options: printed, positions } = optionsOf(stem);
      const probabilities = byCountry.map((stance) => {
        const masses = positions.map((position) => Math.exp(-SHARPNESS * (stance - position) ** 2));
        const sum = masses.reduce((total, mass) => total + mass, 0);
        const unsure = stem.unsure ? 0.08 : 0;
        const shares = masses.map((mass) => ((1 - unsure) * mass) / sum);
        return stem.unsure ? [...shares, unsure] : shares;
      });
      return { question: framed(framing, stem.text(topic)), options: printed, topic, probabilities };
    }),
  );

  // Which questions a country was asked: a random subset of its size.
  const polls = SURVEY_COUNTRIES.map(({ name, share }, c) => {
    const order = random('asked', name).shuffle(questions.map((_, q) => q));
    return { name, c, asked: new Set(order.slice(0, Math.round(rows * share))) };
  });
  const lines = random('order')
    .shuffle([...questions.entries()])
    .flatMap(([q, { question, options: printed, probabilities }]) => {
      const held = polls.filter(({ asked }) => asked.has(q));
      if (held.length === 0) return [];
      const selections = new Map(
        held.map(({ name, c }) => [name, poll(present(probabilities[c]), random('poll', q, c))]),
      );
      const fields = [question, `defaultdict(<class 'list'>, ${pythonRepr(selections)})`, pythonRepr(printed), 'SYN'];
      return `${fields.map((field) => `"${field.replaceAll('"', '""')}"`).join(',')}\n`;
    });

  return {
    csv: `question,selections,options,source\n${lines.join('')}`,
    truth: {
      seed,
      countries: [...SURVEY_COUNTRIES],
      questions: questions.map(({ probabilities, ...question }) => ({
        ...question,
        probabilities: Object.fromEntries(SURVEY_COUNTRIES.map(({ name }, c) => [name, present(probabilities[c])])),
      })),
    },
  };
}

/** Shares among {@link RESPONDENTS} people who answer independently. */
function poll(probabilities: number[], random: Random): number[] {
  const counts = probabilities.map(() => 0);
  for (let i = 0; i < RESPONDENTS; i++) {
    const answer = random.categorical(probabilities);
    counts[answer] = present(counts[answer]) + 1;
  }
  return counts.map((count) => count / RESPONDENTS);
}

/**
 * Writes survey.csv, truth.json and, by the same code that reads GlobalOpinionQA, the pairs of all five countries with
 * their summary.json into a folder.
 */
export async function writeSurvey(
  folder: string,
  options: { seed: number; rows?: number; template?: PromptTemplate },
): Promise<OpinionSummary> {
  const { csv, truth } = generateSurvey(options);
  const survey = await parseSurvey(Buffer.from(csv), 'survey.csv');
  const { seed, template } = options;
  const made = opinionPairs(survey, { groups: truth.countries.map(({ name }) => name), seed, template });
  writeFileSync(join(folder, 'survey.csv'), csv);
  writeFileSync(join(folder, 'truth.json'), `${JSON.stringify(truth, null, 1)}\n`);
  writeOpinionPairs(folder, made);
  return made.summary;
}
