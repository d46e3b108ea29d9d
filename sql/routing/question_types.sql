-- requires: 000_core
-- Signs of what a question asks for, in the words that routing.own_words leaves: § begins a sentence, ¶ is a text that was brought
-- along, a space stands before and after each word, there are no accents. Each sign that matches gives its points to its type, and
-- the type with the most points wins (routing.question_type). Most alternatives are the beginning of a word: they hold for all its
-- forms. English first, then German, French and Spanish, a line each.
-- PostgreSQL keeps the 32 regular expressions that a session used last in compiled form. With those of routing.own_words these are
-- two dozen; rather lengthen a row than add one, or every turn compiles them anew, which takes it ten milliseconds.
CREATE OR REPLACE FUNCTION routing.question_types()
RETURNS TABLE (name text, points integer, pattern text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  VALUES
    -- Nothing but greetings, thanks and small talk.
    ('smalltalk', 9, '^[§ ]*$|^ § ([a-z]+ )?(thanks|thank you|thx|cheers|great|perfect|awesome|nice|cool|good (job|work|night|one)|well done|sorry|never ?mind|got it|no problem|bye|goodbye'
      '|see you|talk to you|have a|hope you|how are|how s it|how is it|what s up|are you (there|ok)|who are you|what can you do|nice to meet|happy|morning|evening|haha|lol|welcome'
      '|danke|vielen dank|super|prima|tschus|bis (bald|morgen|spater)|wie geht|schone[nrs]?'
      '|merci|au revoir|ca va|comment (ca|vas|allez)|bonne|a (bientot|demain)'
      '|(muchas )?gracias|adios|hasta|que tal|como estas)( [^§]{0,40})?[§ ]*([^§]{0,40}[§ ]*)?$'),

    -- Security: its reviews and its dangers by name.
    ('security', 4, ' (threat(s|ening)? (model|analy|assess|landscape)|attack|(weak|soft) (point|spot)|secur(ity|e) (code )?(review|audit|assess|analy|evaluat|check|implication|impact|weakness|flaw|hole|gap|risk'
      '|threat|problem|issue|concern|posture|hardening|point of view|perspective|standpoint|design|architecture|measure|control)|pen(etration)? ?test|red team|owasp|stride|cve|cvss|injection|xss|csrf|ssrf|xxe|rce'
      '|idor|traversal|privilege|vulnerab|exploit|harden|bypass|brute ?force|side channel|ransomware|blast radius|incident response|exfiltrat|unauthori[sz]ed|data breach|misconfig|hacker|intruder|adversar|malicious'
      '|sicherheits(pruf|uberpruf|analyse|luck|risik|audit|bewert|check|problem|konzept)|schwachstelle|bedrohung|angriff|angreif|penetrationstest'
      '|(audit|analyse|revue|failles?|risques?) de securite|faille|menace|attaqu|pirate'
      '|(revision|auditoria|analisis|fallos?|riesgos?|brechas?) de seguridad|amenaza|ataque|atacante)'),
    -- Somebody might do harm, something might not be safe, or something is to be examined with regard to that.
    ('security', 3, ' (attacker|adversar|intruder|hacker|malicious|angreifer|attaquant|pirate|atacante)| (could|can|might|would) (somebody|someone|anyone|anybody|people)( [^§]*)? (abuse|misuse|steal|break|read|escalat|access|get (in|at|hold))'
      '| (is|are|how|does|do)( [^§]*)? (secure|safe (to|from|against|enough|for)|insecure|leak|stolen|publicly|tamper|spoof|expose|open (us|me|it) up|compromis)| (was|were|been|left) public | (secure|safe) §| (sicher genug|unsicher|abgesichert|sicheres|missbrauch|est (elle |il )?sure|es seguro)'
      '|(§|,|and|to|und|et|y) (review|audit|assess|check|evaluat|analy[sz]|examin|inspect|look (at|over|for|into)|find|identify|test|scan|verify|pruf|uberpruf|bewert|analysier|untersuch|verifi|evalu|revis|analiz|busca|cherche)[a-z]*'
      '( [^§]*)? (secur|permission|secret|injection|auth(n|z|ent|or)|credential|access (control|right)|firewall|encrypt|crypto|[a-z]*sicher|berechtigung|fernwartung|securite|seguridad)'),
    -- One of the words of security, of something that is at hand.
    ('security', 2, ' (our|we|this|these|my|us|following|unsere?[mnrs]?|wir|diese[mnrs]?|notre|nos|ce|cet|cette|nuestr[ao]s?|est[aeo])( [^§]*)? (attack|vulnerab|threat|exploit|secur|injection|weak|bypass|harden|angreif|angriff|schwach|sicher|faille|securite|seguridad|atacante)'
      '| (attack|vulnerab|threat|exploit|injection|weak|bypass|harden|angreif|angriff|schwach|faille|securite|seguridad|atacante)[^§]* (our|we|this|these|my|us|following|unsere?[mnrs]?|diese[mnrs]?|notre|nos|ce|cet|cette|nuestr[ao]s?|est[aeo]|api) '),

    -- Reasoning: its methods by name; planning and designing something large; dividing what is scarce.
    ('reasoning', 4, ' (step by step|each step|(think|reason|walk|work) ([a-z]+ )?through|reason about|your reasoning|root cause|trade ?off|pros and cons|both sides|prove|proof|derive|derivation|disprove|counter ?example|show (that|formally)|invariant|what if'
      '|worst case|optim|minimi[sz]|maximi[sz]|constraint|subject to|feasib|scenario|probabilit|expected value|forecast|simulat|sensitivity|reconcile|contradict|necessarily|reason (carefully|it out)|critical path|break ?even|cost benefit|business case|deadlock|race condition'
      '|schritt fur schritt|ursache|abwag|wage [^§]*ab|vor und nachteile|beweis|herleit|leite [^§]* her|wahrscheinlich|szenari|randbeding|machbar'
      '|etape par etape|pas a pas|cause (profonde|racine)|avantages et (les )?inconvenients|demontre|prouve|contrainte'
      '|paso a paso|causa (raiz|principal)|ventajas y desventajas|demuestra|demostra|deduce|restriccion)'
      '|(§|,|and|und|et|y|should we|would you|do we) (re)?(design|architect|plan|devise|draw up|develop|create|build|propose|suggest|work out|lay out|map out|outline|prepare|make|come up with|put together|write|model|refactor|restructur'
      '|entwirf|entwerf|entwickle|erstelle|erarbeite|plane|konzipier|schlage|concois|concevoir|concevez|elabore|etabli|planifi|construi|disena|disene|elabora|planific|propon|prepara|crea)[a-z]*( [^§]*)? '
      '(architectur|migration|rollout|roll out|road ?map|strateg|failover|fail over|high availab|continuity|recovery|contingency|capacity|transition|milestone|dependenc|phased|phases|data ?model|role model|schema|system|pipeline'
      '|platform|framework|algorithm|protocol|concept|topology|scheme|plan (to|for|that|with|how)|monolith|microservice|architektur|fahrplan|konzept|notfall|modell|plan de|reprise|feuille de route|[a-z]+(konzept|plan|modell|architektur)|arquitectura|migracion|estrategia|sistema|modelo|hoja de ruta)'
      '| (cheapest|fastest|shortest|fewest|lowest|highest|least|best|most) [^§]* (if|given|so that|while|without|when|assuming) '
      '|(§|,|and|und|et|y) (design|architect|plan (the|our|a|an|how|for)|devise|entwirf|entwerfe|plane (die|den|das|eine?n?)|konzipiere|concois|concevez|planifie|disena|planifica) '
      '|(§|,|and) (assign|allocat|distribut|schedul|split|verteil|reparti|distribu)[a-z]*( [^§]*)? (so that|such that|each|every|across|among|with no|without|at least|at most|so dass|jede|chaque|cada)'),
    -- A decision between alternatives, with its reasons; the best under conditions.
    ('reasoning', 3, ' (compare|contrast|weigh|evaluat|assess|consider|analy[sz]|rank|vergleich|bewert|compara|evalua|evalue|analiz)[a-z]* .*[ ](recommend|decide|choose|pick|which (one|of)|justify|propose|conclude|best'
      '|empfehl|empfiehl|entscheid|begrund|recommand|choisi|justifi|recomien|elig|decid|justific)'
      '| (evaluat|assess|analy[sz]|examin|critical|investigat|bewert|analysier|untersuch|evalu|analiz)[a-z]*( [^§]*)? (implication|impact|consequence|risk|viab|option|alternative|effect|assumption|gaps?|auswirkung|risik|folgen|consecuencia|riesgo)'
      '| (should|would) (we|i|they|it) [^§]* (or|instead|rather|versus|vs) | (buy|make|build|lease|rent|outsource|insource) or (buy|make|build|lease|rent|outsource|in ?house)'
      '| (what|which|how (many|much)) [^§]*(should|would) (we|you|i|our) | (better|best|right) (choice|option|approach|way|fit) | whether (it|we|to) | (worth|pays) (it|to|the)| come to a conclusion| (advise|recommend|decide) (us |me )?(which|what|whether|on|how|if)'
      '| (is it|would it be) [^§]*(better|smarter|wiser|cheaper|safer|worth)| are we missing| (sollten wir|sollen wir|devrions nous|faut il|deberiamos|conviene)'),
    -- Why something behaves so, what would follow from what, how something of ours should be.
    ('reasoning', 3, ' why .* (although|even though|despite|but|only|sometimes|intermittent|since|after|while|whereas|keeps?|every)| (although|even though|despite|but|only|sometimes|intermittent|since|after|while|occasional)[^§]*§? .*why '
      '| (work|figure|find) out (why|how|what|which|whether|the)| (likel|probable|possible|plausible|underlying|isolate|identify|determine)[a-z]* (the )?(cause|reason|explanation|culprit)| what (could|might|would|can) (be|have|go|cause|explain|happen|break|fail|lead)| (correlate|reconstruct|sequence of events|led (up )?to)'
      '| (behind|explain) (this|it|that)| narrow (it|this) down| (diagnos|troubleshoot|debug)[a-z]*| what (does|would|will) [^§]*(do to|mean for|happen)| if (the|we|our) [^§]* what | what follows'
      '| warum [^§]*(obwohl|nur|manchmal|seit)| pourquoi [^§]*(alors que|seulement|malgre|depuis)| por que [^§]*(aunque|solo|a pesar|desde)'
      '| (how|where) (should|would) (we|you|it|our|the)| how (do|can|could|might|to) (we|you|i|one|our)? ?(best |safely )?(design|structur|architect|organi[sz]|prioriti|partition|shard|migrat|split|scale|decompos|guarantee|ensure|prevent|consolidat'
      '|reduc|balanc|improve|mitigat|moderni[sz]|get from|move|avoid)'),
    -- Conditions that the answer has to meet, or figures that it has to reckon with.
    ('reasoning', 2, ' (at least|at most|no more than|not more than|no less than|so that|such that|without [a-z]+ing|limited to|given|with no|nobody|no one|within (a|one|two)|taking [^§]* into account|considering|under (the|these|load)|tolerate'
      '|mindestens|hochstens|so dass|ohne dass|au moins|au plus|sans (que|depasser)|tout en|compte tenu|al menos|como maximo|respetando|sin que)|( [0-9]+[a-z]*( [^¶]*)?){3}'),
    -- A situation is described, and then something is asked of it.
    ('reasoning', 2, '^ § [^§¶]{40,}§ [^§¶]{15,}'),
    -- A hundred letters of one's own of which nothing else is known: who explains that much wants more than to look something up.
    ('reasoning', 1, '^[^¶]{110}'),

    -- Classification: the verb.
    ('classification', 5, '^ § ([^§ ]+ ){0,4}(pii|spam|phishing|sentiment|intent|language|mood|tone|stimmung|sprache|langue|idioma|absicht)( check| detection| analysis)? [§ ]*([^§ ]|¶)|(§|,|and|und|et|y) (classify|categori[sz]e|triage|tag|label|bucket|add ([a-z]+ )?(label|tag)|flag|moderate|(sort|group) (each|these|those|the|this) [^§]* (into|as|by)|rate [^§]*(sentiment|urgen|tone|priority|1 to|from)'
      '|(assign|pick|choose|select|give) [^§]*(categor|label|tag|class|priority|queue|topic|severity|department)|set the (priority|severity)|route (this|the|each)|how (do|does|is) (the |this )?(customer|user|author|writer|sender|client|reviewer) (feel|sound)'
      '|(detect|identify|determine|recogni[sz]e|guess|predict|name|what is|what s|extract|find)? ?((the|this|its|main|overall|user s|customer s|caller s|sender s|underlying) )*(intent|intention|sentiment|language|topic|category|tone|mood|emotion)( analysis| detection)? (of|in|is|behind|for|here|§)'
      '|(cual es|quelle? est|was ist|wie ist|welche) (el|la|le|l|die|der|das)? ?(intencion|sentimiento|tono|idioma|categoria|sentiment|ton|langue|intention|categorie|stimmung|absicht|kategorie|sprache)'
      '|klassifizier|kategorisier|ordne [^§]* zu|etikettier|markier|sortiere|classe (ce|cet|cette|ces|le|la|les|chaque|chacun)|categorise|etiquett|trie|clasific|categoriz|etiquet)'),
    -- Yes or no, or one word out of several.
    ('classification', 4, ' (yes|ja) (or|oder|/) (no|nein)| true (or|/) false|(answer|reply|respond) [^§]*(yes|true|one word)| (just|only) [^§]*(label|word|category|yes|number| or )| wahr oder falsch| (oui|vrai) ou (non|faux)| (si|verdadero) o (no|falso)'
      '| (or|oder|ou|o) [^§¶]* (§[§ ]*)?¶|§ (is|are|does|ist|sind|est|es) (this|the following|diese[rs]?|ce|cette|est[ea])( [^§]*)? (or|oder|ou|o) | (this|these|it|here|ticket|message|mail|request|dieses|ce|este)[^§]* § [^§]*, [^§]* (or|oder|ou|o) [^§]* §| (low|niedrig|baja|bas)[a-z]* [,/] (medium|mittel|media|moyen)| p1 (,|/|or) p[23]'),
    -- One of the usual properties of a text that is at hand.
    ('classification', 3, ' (intent|intention|sentiment|tone|mood|urgent|urgency|severity|spam|phishing|scam|legit|offensive|toxic|profan|swear|hate speech|sarcas|rude|insult|(an?|as) (complaint|request|question|order|invoice)|bug report|feature request|on topic|off topic'
      '|(document|message|request|ticket|topic) type|(what|which) (language|category|department|team|queue|topic|label|class|type of|kind of)|who should (handle|pick|take|get|deal|receive)|(category|queue|department|team) [^§]*(belong|go to|handle|fit)|priority|(angry|happy|positive|negative|neutral)[ ,a-z]* (or|and) [a-z]*'
      '|dringend|beschwerde|stimmung|absicht|(welche[rmns]?) (sprache|kategorie|abteilung|stimmung|absicht|thema)|positiv oder negativ'
      '|(the )?(customer|user|author|writer|sender|client|kunde|cliente) (feel|sound|want|need|mean)|urgente?|reclamation|plainte|humeur|quelle (langue|categorie|equipe)|positif ou negatif|queja|intencion|sentimiento|(que|cual) [^§]*(idioma|categoria|departamento)|positivo)[^§]*'
      '( (this|these|it|that|here|following|diese[mnrs]?|folgende[mnrs]?|ce|cet|cette|est[aeo]) |(§ )*¶)'
      '| (this|these|it|here|following|customer|user|author|sender|diese[mnrs]?|folgende[mnrs]?|ce|cet|cette|est[aeo])( [^§]*)? (intent|sentiment|tone|mood|urgent|spam|phishing|scam|offensive|toxic|rude|complaint|bug report|feature request|dringend|beschwerde|reclamation|queja|positive|negative|positiv)'),
    -- A closed question about it.
    ('classification', 2, '§ (is|are|does|do|has|have|could|can|was|would|should|ist|sind|enthalt|steht|handelt|est|contient|y a t il|es|contiene|hay|esta)( [^§ ]+){0,3} '
      '(this|these|the following|the (text|message|mail|e mail|ticket|customer|user|sender|author|sentence|statement|comment|review|clause|memo)|it|there|here|diese[mnrs]?|folgende[mnrs]?|der (text|kunde|satz)|ce|cet|cette|est[aeo]|el (texto|mensaje|cliente)) [^§]*§.*¶'),
    -- Personal data in a text that is at hand.
    ('pii', 7, ' (§|,|and|if|whether|any|contain|mention|hold|includ|flag|find|detect|identif|check|scan|mask|redact|mark|highlight|list|reveal|enthalt|sind|finde|prufe|ob|contient|a t il|trouve|contiene|hay|busca|incluye)[a-z]*'
      '( [^§]*)? (pii|phi|personal(ly)? (data|info|identif|detail)|identifying|identit|(names?|address(es)?|phone numbers?|social security|credit card)( [^§]*)? (in|text|mentioned)|sensitive (data|info)|personenbezogene|personliche daten|namen|donnees (personnelles|a caractere)|datos (personales|sensibles))'
      '[^§]*( (in|from|this|these|the following|below|here|text|ce|dans|est[aeo]|en|folgende|diese)[^§]*§|(§ )*¶)| (contain|enthalt|contient|contiene|there|includ)[a-z]*( [^§]*)? (pii|personal data|personal information|personenbezogene|donnees personnelles|datos personales)'
      '| (redact|anonymi[sz]|pseudonym)| (this|these|following|diese[mnrs]?|ce|est[aeo])( [^§]*)? (pii|personal (data|info)|personenbezogene|names?|namen|adressen|identity|anybody s|noms) '),

    -- To make another text out of a text, or a new one: translate, summarise, extract, draft.
    ('writing', 8, '(§|,|and) (translat|ubersetz|tradui|traduc|traduz|(put|turn|render|say) [^§]* (into|in) (english|german|french|spanish|italian|polish|dutch)|how do (you|i) say|what is ¶ in)'
      '| (in|into|to|auf|en|al|ins) (english|german|french|spanish|italian|polish|englische?|deutsche?|franzosisch|spanisch|anglais|allemand|francais|espagnol|ingles|aleman|frances|espanol)( , [^§]*)? § ¶'
      '|(§|,|and) ([^§ ]+ ){0,3}(summari[sz]|summary|(short|brief|quick) (overview|recap)|recap|tl dr|tldr|gist|key (points|takeaways|messages)|main points|highlights|condense|shorten|boil (this|it|that|down)|fasse? [^§]*zusammen|zusammenfass|resum|synthes|sintetiz)'),
    ('writing', 6, '^ § (the )?(extract|list|pull|find (all|every) [^§]* (in|from|mentioned)|collect|enumerate|copy|count|liste|extrahier|zahle? |extrai|extrae|enumer)'
      '|(§|,) ((draft|write|compose|prepare|create|formulate|word|suggest|make|generate|schreib|verfass|formulier|erstelle|redige|ecri|prepare|redact|escrib|prepara|crea)[a-z]* ([a-z]+ ){0,5}'
      '(e ?mail|mail|letter|note|reply|response|answer|message|memo|text|post|advert|announcement|invitation|agenda|template|description|speech|slide|presentation|minutes|headline|title|names?|slogan|paragraph|sentence|checklist|faq|survey|brief'
      '|absage|schreiben|nachricht|antwort|einladung|anzeige|vorlage|lettre|courriel|reponse|annonce|carta|correo|respuesta|anuncio|mensaje)'
      '|rewrite|rephrase|reword|paraphrase|proofread|correct|polish|format|convert|rename|turn [^§]* into|make this [^§]*(sound|shorter|clearer)|umformulier|korrigier|reformul|corrig|reescrib)'),
    -- To look something up.
    ('lookup', 7, '^ § ((who (is|was|has|owns|approve|can|may|sign|do|did|wrote|classif|are|gets)|when|how (many|much|long|often|old|far|big)|what (time|day|date|number|version)|what (did|was|were|has|had)|(has|have|had|did|was|were) (the|our|my|your|there|any|we|i)|explain what [^§]*|what (is|s|are) (an? )?([^§, ]+ ){1,4}§ §'
      '|wer|wann|wie (viele?|lange|oft|hoch)|quand|combien|cuando|cuant[oa]s?|quien)[a-z]*) | (in (simple|plain|layman|other) (words|terms|s terms|english)|to a non|for (beginners|dummies)) '),
    -- To explain or find something, how to use it, what it is.
    ('lookup', 4, '(§|,) (where (do|can|is|to)|how (do (i|you)|can i|does)|what does [^§]* mean|what happened|is there|are there|can (i|my|employees)|may i|do (i|we)|am i|which (version|form|room|day|document|template|page|person|of our|[a-z]+ (do|does|can) i)|who (can|is|has|do i)|is (that|it|this) (true|right|correct|allowed|possible|normal)|what (is|was|were) (that|this|it|the (main|key|latest))|explain|describe|define|remind'
      '|what is (the (difference|meaning|purpose|deadline|name|number|procedure|process|policy|status))|what s|what do|whats|steps to|look up|wo|wie (heisst|beantrage|kann ich|funktioniert|geht|richte)|was (bedeutet|heisst|ist)|welche[rsn]? (frist|formular)|gibt es|kann ich|darf ich|muss ich|erklare?|beschreibe?'
      '|qui|ou|comment|qu est|quelle? est|que signifie|explique|expliquez|decris|y a t il|puis je|donde|como|que (es|significa)|cual es|explica|describe|hay|puedo) '
      '|§ (what (is|s|are)|define|explain|meaning of|was (ist|sind)|qu est ce qu|que es) ((an?|the|our|what|eine?|une?) )*[^§, ]+( [^§, ]+){0,5} (means?|is)? ?(§ )*$'),
    ('lookup', 2, '^ § (what|which|welche|quel|quelle|que|cual)[a-z]* |(polic(y|ies)|process|procedure|template|form|training|deadline|contact|report|results?|scheduled|guidelines?|richtlinie|vorlage|termin|politique|formulaire|politica|formulario) '),
    -- A small piece of code.
    ('code', 5, '(§|,) ((write|fix|implement|add|give|create|generate|convert|explain|complete|schreib|erstelle|ecri|corrige|ajoute|escrib|crea|anade)[a-z]*( [^§]*)? (function|script|query|regex|regular expression|class|method|unit test|test case|snippet|macro'
      '|formula|one liner|command|docstring|loop|json|yaml|funktion|skript|abfrage|formel|fonction|requete|formule|funcion|consulta|expresion)|how (do i|to) [^§]* in (python|java|javascript|sql|bash|excel|go|rust|c|r|typescript|powershell))')
$$;

COMMENT ON FUNCTION routing.question_types() IS
  'The signs by which routing.question_type tells what a question asks for: each pattern that the routing.own_words match gives its points to the type.';
GRANT EXECUTE ON FUNCTION routing.question_types() TO app, dba_readonly;
