-- What the daemon's role needs of conversations: to add rows, and to recognise what is sent again. Of a
-- conversation its key decides, so no more than that is to be seen; the others are compared.

GRANT INSERT ON :"schema".conversations, :"schema".messages, :"schema".attachments TO :"role";
GRANT SELECT (id) ON :"schema".conversations TO :"role";
GRANT SELECT ON :"schema".messages, :"schema".attachments TO :"role";
GRANT EXECUTE ON FUNCTION :"schema".message_text(jsonb) TO :"role";
