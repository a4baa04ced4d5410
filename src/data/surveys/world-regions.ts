import { InputError } from '../../errors.js';
import { listNames } from '../../terminal/names.js';
import type { Survey } from './global-opinions.js';
import type { CountryGroup } from './opinion-pairs.js';

/**
 * Regions of the world, for surveys with too few questions a country. Countries are named as in GlobalOpinionQA; of some it has several
 * samples, told apart by what stands in brackets.
 */
const regions: Record<string, string> = {
  'Western Europe':
    'Andorra, Austria, Belgium, Britain, Cyprus, Denmark, Finland, France, Germany, Great Britain, Greece, Iceland, Italy, Netherlands, Northern Ireland, Norway, Portugal, Spain, Sweden, Switzerland',
  'Eastern Europe and Central Asia':
    'Albania, Armenia, Azerbaijan, Belarus, Bosnia Herzegovina, Bulgaria, Croatia, Czech Rep., Czechia, Estonia, Georgia, Hungary, Kazakhstan, Kyrgyzstan, Latvia, Lithuania, Montenegro, North Macedonia, Poland, Romania, Russia, Serbia, Slovakia, Slovenia, Tajikistan, Ukraine, Uzbekistan',
  'North America and Oceania': 'Australia, Canada, New Zealand, Puerto Rico, United States',
  'Latin America':
    'Argentina, Bolivia, Brazil, Chile, Colombia, Ecuador, El Salvador, Guatemala, Honduras, Mexico, Nicaragua, Peru, Uruguay, Venezuela',
  'Middle East and North Africa':
    'Algeria, Egypt, Iran, Iraq, Israel, Jordan, Kuwait, Lebanon, Libya, Morocco, Palest. ter., Tunisia, Turkey, Yemen',
  'Sub-Saharan Africa':
    'Angola, Burkina Faso, Ethiopia, Ghana, Ivory Coast, Kenya, Mali, Nigeria, S. Africa, Senegal, Tanzania, Uganda, Zimbabwe',
  'South Asia': 'Bangladesh, India, Maldives, Pakistan',
  'East and Southeast Asia':
    'China, Hong Kong SAR, Indonesia, Japan, Macau SAR, Malaysia, Mongolia, Myanmar, Philippines, S. Korea, Singapore, South Korea, Taiwan, Taiwan ROC, Thailand, Vietnam',
};

const regionOf = new Map(
  Object.entries(regions).flatMap(([region, countries]) => countries.split(', ').map((country) => [country, region])),
);

/**
 * All countries of a survey, in the order of their first appearance, as world regions.
 * @throws InputError naming countries that have no region here
 */
export function worldRegions(survey: Survey): CountryGroup[] {
  const countries = [...new Set(survey.questions.flatMap(({ selections }) => [...selections.keys()]))];
  const named = countries.map((country) => ({ country, region: regionOf.get(country.replace(/ \(.*\)$/, '')) }));
  const unknown = named.flatMap(({ country, region }) => (region === undefined ? [country] : []));
  if (unknown.length > 0)
    throw new InputError(`the region of ${listNames(unknown)} is not known`, {
      at: { file: survey.file },
      fix: 'name countries instead of regions',
    });
  return Object.keys(regions).flatMap((name) => {
    const members = named.flatMap(({ country, region }) => (region === name ? [country] : []));
    return members.length > 0 ? [{ name, countries: members }] : [];
  });
}
