// Uses an OpenAI-compatible API with the official Node client, and prints what it saw as one JSON document.
//
// OPENAI_BASE_URL (with /v1) and OPENAI_API_KEY say where; CHAT_MODEL and EMBEDDING_MODEL which models. Nothing is judged here:
// the test that starts this compares the document with what it knows. A step that fails is told in its place.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const chat = process.env.CHAT_MODEL;
const messages = [{ role: "user", content: "What does the relief valve of the harbour pump do?" }];
const tools = [
  {
    type: "function",
    function: {
      name: "weather",
      description: "The weather of a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

const steps = {
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return ids;
  },

  async whole() {
    const { data, response } = await client.chat.completions
      .create({ model: chat, messages, max_tokens: 200, temperature: 0.2, stop: ["\n\n\n"], n: 1 })
      .withResponse();
    const [choice] = data.choices;
    return {
      id: data.id,
      object: data.object,
      model: data.model,
      text: choice.message.content,
      finish_reason: choice.finish_reason,
      usage: counts(data.usage),
      request_id: response.headers.get("x-request-id"),
    };
  },

  async streamed() {
    const stream = await client.chat.completions.create({
      model: chat,
      messages,
      max_tokens: 200,
      stream: true,
      stream_options: { include_usage: true },
    });
    const seen = { text: "", chunks: 0, ids: new Set(), finish_reasons: [], usage: null, usage_chunk_choices: null };
    for await (const chunk of stream) {
      seen.chunks += 1;
      seen.ids.add(chunk.id);
      for (const choice of chunk.choices) {
        seen.text += choice.delta.content ?? "";
        if (choice.finish_reason) seen.finish_reasons.push(choice.finish_reason);
      }
      if (chunk.usage) {
        seen.usage = counts(chunk.usage);
        seen.usage_chunk_choices = chunk.choices.length;
      }
    }
    return { ...seen, ids: seen.ids.size };
  },

  async tools() {
    const completion = await client.chat.completions.create({ model: chat, messages, tools, tool_choice: "auto" });
    const [choice] = completion.choices;
    return { finish_reason: choice.finish_reason, calls: choice.message.tool_calls?.map(call) ?? [] };
  },

  async tools_streamed() {
    const runner = client.chat.completions.stream({ model: chat, messages, tools });
    const [choice] = (await runner.finalChatCompletion()).choices;
    return { finish_reason: choice.finish_reason, calls: choice.message.tool_calls?.map(call) ?? [] };
  },

  // The client asks for base64 by itself, and decodes what it gets.
  async embeddings() {
    const given = { model: process.env.EMBEDDING_MODEL, input: ["one", "two"] };
    const result = await client.embeddings.create(given);
    return {
      indexes: result.data.map((each) => each.index),
      widths: result.data.map((each) => each.embedding.length),
      first: result.data.map((each) => each.embedding[0]),
      usage: result.usage,
    };
  },

  async unknown_model() {
    return refused(client, { model: "no/such-model", messages });
  },

  async wrong_key() {
    return refused(client.withOptions({ apiKey: "sk-wrong" }), { model: chat, messages });
  },

  async bad_request() {
    return refused(client, { model: chat, messages: [] });
  },
};

function counts({ prompt_tokens, completion_tokens, total_tokens }) {
  return { prompt_tokens, completion_tokens, total_tokens };
}

function call({ type, function: { name, arguments: given } }) {
  return { type, name, arguments: JSON.parse(given) };
}

async function refused(asking, request) {
  try {
    await asking.chat.completions.create(request);
    return null;
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, type, param, message, requestID } = error;
    return { class: error.constructor.name, status, code, type, param, message, request_id: requestID ?? null };
  }
}

const report = {};
for (const [name, step] of Object.entries(steps)) {
  try {
    report[name] = await step();
  } catch (error) {
    report[name] = { failed: `${error.constructor.name}: ${error.message}` };
  }
}
console.log(JSON.stringify(report));
