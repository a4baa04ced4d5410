import { z } from 'zod';
import { configSchema } from './config.js';

type Property = z.core.JSONSchema.JSONSchema;

/** docs/configuration.md: every key of a configuration, from the schema that checks it. */
export function configurationReference(): string {
  const schema = z.toJSONSchema(configSchema, { io: 'input' });
  return `# Configuration

Made from the schema that checks a configuration (src/train/config.ts) by \`npx vitest run test/train/config-reference.test.ts -u\`. Keys with
a dot lie within the one before it, as in \`optimizer: { learningRate: 1e-4 }\`; \`--set optimizer.learningRate=1e-4\` names them in the same way.
\`train CONFIG --print-config\` shows a configuration with all defaults filled in.

| key | value | default | meaning |
|---|---|---|---|
${rows(schema, '').join('\n')}
`;
}

function rows({ properties = {}, required = [] }: Property, prefix: string): string[] {
  return Object.entries(properties).flatMap(([name, child]) => {
    const property = detail(child);
    const { description = '', properties: below, default: initial } = property;
    const value = below ? 'keys below' : typeText(property);
    const preset = required.includes(name) ? 'needed' : initial === undefined || below ? '' : code(initial);
    const row = `| \`${prefix}${name}\` | ${value} | ${preset} | ${description.replaceAll('|', '\\|')} |`;
    return [row, ...rows(property, `${prefix}${name}.`)];
  });
}

function typeText(property: Property): string {
  const { type, items, prefixItems, anyOf, properties } = property;
  if (property.enum) return property.enum.map(code).join(', ');
  if (anyOf) return anyOf.map(typeText).join(' or ');
  if (prefixItems) return `[${prefixItems.map((item) => typeText(detail(item))).join(', ')}]`;
  if (properties)
    return `{ ${Object.entries(properties)
      .map(([key, value]) => `${key}: ${typeText(detail(value))}`)
      .join(', ')} }`;
  if (type === 'array') return `list of ${typeText(detail(items))}`;
  if (type === 'boolean') return '`true`, `false`';
  if (type === 'string') return 'text';
  return `${type === 'integer' ? 'whole number' : 'number'}${boundsText(property)}`;
}

/** A schema may also be just true or false, which says nothing. */
function detail(schema: Property['items']): Property {
  return typeof schema === 'object' && !Array.isArray(schema) ? schema : {};
}

function boundsText({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }: Property): string {
  const bounds = [
    exclusiveMinimum !== undefined && `> ${exclusiveMinimum}`,
    minimum !== undefined && minimum > Number.MIN_SAFE_INTEGER && `≥ ${minimum}`,
    exclusiveMaximum !== undefined && `< ${exclusiveMaximum}`,
    maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER && `≤ ${maximum}`,
  ].filter(Boolean);
  return bounds.length > 0 ? ` ${bounds.join(', ')}` : '';
}

function code(value: unknown): string {
  return `\`${Array.isArray(value) ? `[${value.join(', ')}]` : value}\``;
}
