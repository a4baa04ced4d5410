import { answerRequests } from '../processes/bounded-child.js';

/** Runs in a process of its own, see peft.ts: finds which texts a regular expression matches from start to end. */

export interface PatternRequest {
  pattern: string;
  texts: readonly string[];
}

export type PatternReply = { matched: boolean[] } | { problem: string };

function replyTo({ pattern, texts }: PatternRequest): PatternReply {
  let expression: RegExp;
  try {
    expression = new RegExp(`^(?:${pattern})$`, 's');
  } catch (error) {
    return { problem: (error as Error).message };
  }
  return { matched: texts.map((text) => expression.test(text)) };
}

answerRequests(replyTo);
