-- conversations: messages kept as they came from each provider, and mapped when they are loaded.
--
-- Messages and attachments are facts. A conversation has a title that its application may change.

-- Tables of these names may have been there before, for another purpose.
DO $sluice$
BEGIN
  PERFORM :"own_schema".require_table(format('%I.conversations', :'schema'),
    'id uuid, title text, created_at timestamp with time zone, updated_at timestamp with time zone,
     metadata jsonb, extra jsonb, received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.messages', :'schema'),
    'id uuid, conversation_id uuid, role text, provider text, model text, raw_message jsonb,
     content_text text, metadata jsonb, created_at timestamp with time zone, extra jsonb,
     received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.attachments', :'schema'),
    'id uuid, message_id uuid, type text, metadata jsonb, created_at timestamp with time zone,
     extra jsonb, received_at timestamp with time zone');
END
$sluice$;

CREATE TABLE IF NOT EXISTS :"schema".conversations (
  id           uuid        PRIMARY KEY,
  title        text,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  metadata     jsonb,
  extra        jsonb,
  received_at  timestamptz NOT NULL DEFAULT now()
);

-- The text of a message: its content if that is a string, else the text parts of its content or parts,
-- a line break between two. What a model thought, its tools' calls and images are no text of it. Not
-- looked for deeper than providers put it, and NULL where there is none. In plpgsql, which takes a fifth
-- of the time that a function in SQL takes for a string, and two thirds for an array.
CREATE OR REPLACE FUNCTION :"schema".message_text(raw_message jsonb) RETURNS text
  LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $sluice$
DECLARE
  content jsonb := CASE
      WHEN jsonb_typeof(raw_message) = 'string' THEN raw_message
      WHEN jsonb_typeof(raw_message -> 'content') IN ('string', 'array') THEN raw_message -> 'content'
      WHEN jsonb_typeof(raw_message -> 'content' -> 'parts') = 'array' THEN raw_message -> 'content' -> 'parts'
      WHEN jsonb_typeof(raw_message -> 'parts') = 'array' THEN raw_message -> 'parts'
    END;
BEGIN
  CASE jsonb_typeof(content)
    WHEN 'string' THEN
      RETURN content #>> '{}';
    WHEN 'array' THEN
      RETURN (
        SELECT string_agg(words #>> '{}', E'\n' ORDER BY n)
          FROM jsonb_array_elements(content) WITH ORDINALITY AS parts (part, n),
               LATERAL (SELECT CASE
                                 WHEN jsonb_typeof(part) = 'string' THEN part
                                 WHEN part -> 'thought' = 'true' THEN NULL
                                 WHEN coalesce(part ->> 'type', 'text')
                                        NOT IN ('text', 'input_text', 'output_text') THEN NULL
                                 ELSE coalesce(part -> 'text' -> 'value', part -> 'text')
                               END) AS text_of_part (words)
          WHERE jsonb_typeof(words) = 'string');
    ELSE
      RETURN NULL;
  END CASE;
END
$sluice$;

CREATE TABLE IF NOT EXISTS :"schema".messages (
  id               uuid        PRIMARY KEY,
  conversation_id  uuid        NOT NULL REFERENCES :"schema".conversations,
  role             text        NOT NULL,
  provider         text,
  model            text,
  raw_message      jsonb       NOT NULL,
  content_text     text        GENERATED ALWAYS AS (:"schema".message_text(raw_message)) STORED,
  metadata         jsonb,
  created_at       timestamptz NOT NULL DEFAULT now(),
  extra            jsonb,
  received_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS :"schema".attachments (
  id           uuid        PRIMARY KEY,
  message_id   uuid        NOT NULL REFERENCES :"schema".messages,
  type         text        NOT NULL,
  metadata     jsonb,
  created_at   timestamptz NOT NULL DEFAULT now(),
  extra        jsonb,
  received_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS messages_conversation_id_created_at
  ON :"schema".messages (conversation_id, created_at);
CREATE INDEX IF NOT EXISTS messages_provider ON :"schema".messages (provider);
CREATE INDEX IF NOT EXISTS attachments_message_id ON :"schema".attachments (message_id);

COMMENT ON TABLE :"schema".conversations IS
  'Current state, of the application: what a row says after its first event is the application''s to change.';
COMMENT ON COLUMN :"schema".conversations.id IS 'Of the application: messages refer to it.';
COMMENT ON COLUMN :"schema".conversations.title IS 'For people. NULL until there is one.';
COMMENT ON COLUMN :"schema".conversations.created_at IS 'When it began, by the producer''s clock.';
COMMENT ON COLUMN :"schema".conversations.updated_at IS 'When this row last changed.';
COMMENT ON COLUMN :"schema".conversations.metadata IS 'Whatever else the application keeps, any JSON: a new field needs no migration.';
COMMENT ON COLUMN :"schema".conversations.extra IS 'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".conversations.received_at IS 'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".messages IS
  'Messages as each provider has them. Append-only: a message that was edited is a new row.';
COMMENT ON COLUMN :"schema".messages.id IS 'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".messages.conversation_id IS 'The conversation it was said in.';
COMMENT ON COLUMN :"schema".messages.role IS 'Who speaks, in the provider''s word: user, assistant, model, tool, system …';
COMMENT ON COLUMN :"schema".messages.provider IS 'Whose form raw_message has.';
COMMENT ON COLUMN :"schema".messages.model IS 'The model that answered or was asked.';
COMMENT ON COLUMN :"schema".messages.raw_message IS 'The provider''s message, value by value as it came.';
COMMENT ON COLUMN :"schema".messages.content_text IS
  'Its text, by message_text(raw_message): string content, or the text parts. NULL if it has none.';
COMMENT ON COLUMN :"schema".messages.metadata IS 'Whatever else the application keeps, any JSON: a new field needs no migration.';
COMMENT ON COLUMN :"schema".messages.created_at IS 'When it was said, by the producer''s clock.';
COMMENT ON COLUMN :"schema".messages.extra IS 'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".messages.received_at IS 'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".attachments IS 'What came with messages. Append-only.';
COMMENT ON COLUMN :"schema".attachments.id IS 'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".attachments.message_id IS 'The message it came with.';
COMMENT ON COLUMN :"schema".attachments.type IS 'What it is, such as image or file.';
COMMENT ON COLUMN :"schema".attachments.metadata IS 'Its name, size, place and whatever else is known of it, any JSON.';
COMMENT ON COLUMN :"schema".attachments.created_at IS 'When it was attached, by the producer''s clock.';
COMMENT ON COLUMN :"schema".attachments.extra IS 'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".attachments.received_at IS 'When the daemon read it, by the daemon''s clock.';
COMMENT ON FUNCTION :"schema".message_text(jsonb) IS
  'The text of a provider''s message: string content, or the text parts of an array, a line break between two.';

CREATE OR REPLACE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON :"schema".messages
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();
CREATE OR REPLACE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON :"schema".attachments
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();
CREATE OR REPLACE TRIGGER updated_at
  BEFORE UPDATE ON :"schema".conversations
  FOR EACH ROW EXECUTE FUNCTION :"own_schema".set_updated_at();

REVOKE UPDATE, DELETE, TRUNCATE ON :"schema".messages, :"schema".attachments FROM PUBLIC;

-- What `sluice show` prints. Of a conversation the last thousand messages: more are for a program to read.
CREATE OR REPLACE FUNCTION :"schema".everything_about_conversations(id uuid) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $sluice$
DECLARE
  attachment :"schema".attachments;
  message :"schema".messages;
  conversation :"schema".conversations;
  about jsonb := jsonb_build_object('id', $1);
  spared constant text[] := ARRAY['conversation_id', 'raw_message', 'metadata', 'extra', 'received_at'];
BEGIN
  SELECT * INTO attachment FROM :"schema".attachments a WHERE a.id = $1;
  SELECT * INTO message FROM :"schema".messages m WHERE m.id = coalesce(attachment.message_id, $1);
  SELECT * INTO conversation FROM :"schema".conversations c WHERE c.id = coalesce(message.conversation_id, $1);
  IF conversation.id IS NULL THEN
    RETURN NULL;
  END IF;
  about := about || jsonb_build_object('conversation', to_jsonb(conversation));
  IF message.id IS NULL THEN
    RETURN about || jsonb_build_object(
      'message_count', (SELECT count(*) FROM :"schema".messages m WHERE m.conversation_id = conversation.id),
      'messages', coalesce((SELECT jsonb_agg(to_jsonb(m) - spared ORDER BY m.created_at, m.id)
                              FROM (SELECT * FROM :"schema".messages s WHERE s.conversation_id = conversation.id
                                     ORDER BY s.created_at DESC, s.id DESC LIMIT 1000) m), '[]'));
  END IF;
  about := about || jsonb_build_object('message', to_jsonb(message));
  IF attachment.id IS NOT NULL THEN
    RETURN about || jsonb_build_object('attachment', to_jsonb(attachment));
  END IF;
  RETURN about || jsonb_build_object(
    'attachments', coalesce((SELECT jsonb_agg(to_jsonb(a) - 'message_id' ORDER BY a.created_at, a.id)
                               FROM :"schema".attachments a WHERE a.message_id = message.id), '[]'),
    'messages_before', coalesce((
      SELECT jsonb_agg(to_jsonb(m) - spared ORDER BY m.created_at, m.id)
        FROM (SELECT * FROM :"schema".messages s
               WHERE s.conversation_id = message.conversation_id
                 AND (s.created_at, s.id) < (message.created_at, message.id)
               ORDER BY s.created_at DESC, s.id DESC LIMIT 10) m), '[]'),
    'messages_after', coalesce((
      SELECT jsonb_agg(to_jsonb(m) - spared ORDER BY m.created_at, m.id)
        FROM (SELECT * FROM :"schema".messages s
               WHERE s.conversation_id = message.conversation_id
                 AND (s.created_at, s.id) > (message.created_at, message.id)
               ORDER BY s.created_at, s.id LIMIT 10) m), '[]'));
END
$sluice$;
COMMENT ON FUNCTION :"schema".everything_about_conversations(uuid) IS
  'All that is known about a conversation, a message or an attachment, as one object: itself and what it belongs to, '
  'a conversation with its last thousand messages, a message with its attachments and the ten before and after it. NULL if nothing is known.';
