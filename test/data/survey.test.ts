import { describe, expect, it } from 'vitest';
import { parseSurvey } from '../../src/data/surveys/global-opinions.js';
import { generateSurvey, SURVEY_COUNTRIES } from '../../src/data/surveys/invented-survey.js';
import { opinionPairs } from '../../src/data/surveys/opinion-pairs.js';
import { SURVEY_ROWS } from '../../src/data/surveys/survey-topics.js';

const winner = (shares: number[]) => shares.indexOf(Math.max(...shares));
const names = SURVEY_COUNTRIES.map(({ name }) => name);
const small = names[names.length - 1];
const seeds = [0, 1, 2, 3, 4];

describe('generateSurvey', () => {
  it('is the same for the same seed and another for another', () => {
    expect(generateSurvey({ seed: 1 })).toEqual(generateSurvey({ seed: 1 }));
    expect(generateSurvey({ seed: 1 }).csv).not.toBe(generateSurvey({ seed: 2 }).csv);
  });

  it.each([SURVEY_ROWS.min, SURVEY_ROWS.default, SURVEY_ROWS.max])(
    'goes through the reader of GlobalOpinionQA whole: %i rows, countries of unequal size',
    async (rows) => {
      const survey = await parseSurvey(Buffer.from(generateSurvey({ seed: 3, rows }).csv), 'survey.csv');
      expect(survey.bad).toEqual([]);
      const { summary } = opinionPairs(survey, { groups: names, seed: 3 });
      expect(summary.totals).toMatchObject({ rows, filtered: 0, duplicates: 0 });
      expect(names.map((name) => summary.groups[name].rows)).toEqual(
        SURVEY_COUNTRIES.map(({ share }) => Math.round(rows * share)),
      );
    },
  );

  it('refuses a size it cannot make', () => {
    expect(() => generateSurvey({ seed: 0, rows: SURVEY_ROWS.max + 1 })).toThrow(RangeError);
    expect(() => generateSurvey({ seed: 0, rows: 10 })).toThrow(RangeError);
  });

  it('has polls that scatter around the truth as 1000 answers do (ratio of variances over ten seeds)', async () => {
    const ratioOf = async (seed: number) => {
      const { csv, truth } = generateSurvey({ seed });
      const truths = new Map(truth.questions.map((question) => [question.question, question]));
      let squares = 0;
      let expected = 0;
      for (const { question, options, selections } of (await parseSurvey(Buffer.from(csv), '')).questions) {
        const known = truths.get(question)!;
        expect(options).toEqual(known.options);
        for (const [country, shares] of selections)
          shares.forEach((share, option) => {
            const p = known.probabilities[country][option];
            squares += (share - p) ** 2;
            expected += (p * (1 - p)) / 1000;
          });
      }
      return squares / expected;
    };
    const ratios = await Promise.all(Array.from({ length: 10 }, (_, seed) => ratioOf(seed)));
    // One seed's ratio has a standard deviation of about 0.055.
    const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
    expect(Math.abs(mean - 1)).toBeLessThan((4 * 0.055) / Math.sqrt(10));
  });

  it('has true shares that sum to 1, none of them a tie at the top', () => {
    for (const { probabilities } of generateSurvey({ seed: 6 }).truth.questions)
      for (const shares of Object.values(probabilities)) {
        expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
        expect(shares.filter((share) => share === Math.max(...shares)).length).toBe(1);
      }
  });

  it('has a small country that disagrees with the rest on most questions, and a rest that mostly agrees', () => {
    for (const seed of seeds) {
      const { questions } = generateSurvey({ seed }).truth;
      const agreement = (a: string, b: string) =>
        questions.filter(({ probabilities }) => winner(probabilities[a]) === winner(probabilities[b])).length /
        questions.length;
      for (const name of names.slice(0, -1)) expect(agreement(name, small), `${seed} ${name}`).toBeLessThan(0.4);
      for (const name of names.slice(1, -1)) expect(agreement(name, names[0]), `${seed} ${name}`).toBeGreaterThan(0.6);
    }
  });

  it("gives little away by country and letter alone: no letter wins 60 % of a country's questions", () => {
    for (const seed of seeds) {
      const { questions } = generateSurvey({ seed }).truth;
      for (const name of names) {
        const counts = new Map<number, number>();
        for (const { probabilities } of questions) {
          const letter = winner(probabilities[name]);
          counts.set(letter, (counts.get(letter) ?? 0) + 1);
        }
        expect(Math.max(...counts.values()) / questions.length, `${seed} ${name}`).toBeLessThan(0.6);
      }
    }
  });
});
