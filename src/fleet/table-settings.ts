/** Settings that say how CSV and TSV are written. */
import { z } from "zod";
import { scheduleOptionsSchema } from "../core/schedule.ts";

const planned = scheduleOptionsSchema.shape;

export const tableSettings = z.object({
  delimiter: planned.delimiter.unwrap().exactOptional().meta({
    value: "character",
    description: "character between the fields of CSV and TSV; \\t is a tab and \\x01 the character of that code",
    byDefault: "a tab in TSV, else recognised in the first line",
  }),
  quote: planned.quote.unwrap().exactOptional().meta({
    value: "character",
    description: "character around fields of CSV and TSV, or none",
    byDefault: '" in CSV, none in TSV',
  }),
  escape: planned.escape.unwrap().exactOptional().meta({
    value: "character",
    description: "character before a quote within quotes; without quotes, before a delimiter or a line end",
    byDefault: "a quote is doubled",
  }),
  noHeader: planned.noHeader.unwrap().default(false).meta({
    description: "the first line of CSV and TSV is data; --columns names the columns",
  }),
  columns: planned.columns.unwrap().exactOptional().meta({
    value: "names",
    description: "names of all columns of CSV and TSV without a header, in order",
    byDefault: "from the first line",
  }),
});
