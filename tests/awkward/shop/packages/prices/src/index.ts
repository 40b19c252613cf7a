import { dinero, toDecimal } from 'dinero.js';
import { EUR } from 'dinero.js/currencies';

/** Writes an amount of cents the way shelves do. */
export function formatPrice(cents: number): string {
  return toDecimal(dinero({ amount: cents, currency: EUR }), ({ value, currency }) => `${value} ${currency.code}`);
}
