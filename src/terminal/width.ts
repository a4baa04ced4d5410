/** How many columns text takes in a terminal: two for East Asian characters and emoji, none for marks that stand on others. */

/** The blocks whose characters East Asian Width (Unicode Annex 11) calls wide or full-width, and pictures. */
const wide =
  /[\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\u3247\u3250-\u4dbf\u4e00-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18dff}\u{1aff0}-\u{1b2ff}\u{1d300}-\u{1d376}\u{1f200}-\u{1f265}\u{20000}-\u{3fffd}\p{Emoji_Presentation}]/u;

/** Marks and formats; of Hangul the vowels and finals, which join the syllable before them. Only the soft hyphen is drawn. */
const joined = /(?!\u00ad)[\p{Mn}\p{Me}\p{Cf}\u1160-\u11ff]/u;

/** Of text without line breaks. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const character of text) width += columnsOf(character);
  return width;
}

/** `text` with spaces behind it until it takes `width` columns. */
export function padToWidth(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - displayWidth(text)));
}

/** As much of the start of `text` as `width` columns hold. */
export function cutToWidth(text: string, width: number): string {
  let end = 0;
  let taken = 0;
  for (const character of text) {
    taken += columnsOf(character);
    if (taken > width) break;
    end += character.length;
  }
  return text.slice(0, end);
}

function columnsOf(character: string): number {
  // Most text.
  if (character < '\u0300') return character === '' ? 0 : 1;
  return joined.test(character) ? 0 : wide.test(character) ? 2 : 1;
}
