import { loadTokenizer } from "../../models/tokenizer/native.ts";
import { openTokenizer } from "../../models/tokenizer/open-tokenizer.ts";
import { madeCorpus } from "../bench/fleet.ts";
import { openMini } from "../fixtures/mini.ts";
import { simTokenizer } from "../simulation/sim-tokenizer.ts";
import { tokenizerSuite } from "./tokenizer.suite.ts";

const TEXTS = [
  "a text of a few words",
  "",
  "x",
  "Überraschung, 東京 und 😀",
  " two  spaces\nand a line ",
  "word ".repeat(60),
];

tokenizerSuite("native", async () => loadTokenizer((await openMini()).tokenizerPath), TEXTS);
tokenizerSuite("a model's", async () => openTokenizer(await openMini(), "passage"), TEXTS);
tokenizerSuite("simulation", async () => simTokenizer, TEXTS);
tokenizerSuite("made", async () => madeCorpus([]).tokenizer, ["3", "17", "400"]);
