"""What happened at the demonstration desk before its day of creation: invented clients, and what became of them."""

# ruff: noqa: RUF001 - they write in their own alphabets

import base64

from api.demo_steps import (
    MAIL,
    Buying,
    Story,
    answers,
    approves,
    asks,
    assigns,
    attaches,
    begins_payout,
    books,
    bounces,
    checks,
    closes,
    compensates,
    corrects_receipt,
    fails_payout,
    finds,
    investigates,
    links,
    needs_no_answer,
    notes,
    offers,
    on,
    proposes,
    proposes_refund,
    proposes_times,
    recategorizes,
    records,
    refunds,
    refuses,
    reopens,
    resumes,
    states,
    story,
    tries,
    writes,
)
from workflow.policy import Category, GroundKind
from workflow.roles import Role
from workflow.states import CompensationKind, LinkKind, Resolution, ResumeReason

BEGINNING = "-63 08:00"

PEOPLE: dict[str, tuple[Role, ...]] = {
    "Ana": (Role.AGENT,),
    "Bo": (Role.AGENT,),
    "Lou": (Role.LEAD,),
    "Cleo": (Role.APPROVER,),
    "Dirk": (Role.APPROVER,),
    "Eli": (Role.APPROVER,),
    "Audrey": (Role.AUDITOR,),
    "Adam": (Role.ADMIN,),
}
ANA, BO, LOU, CLEO, DIRK, ELI, AUDREY, ADAM = PEOPLE

PIXEL_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
STATEMENT_CSV = b"date;text;amount\n02.;STEP-INTO INVOICE 2031;-240.00 EUR\n02.;STEP-INTO INVOICE 2031;-240.00 EUR\n"

OPENED = (
    story(
        "a question about fees",
        on(
            "-1 16:40",
            MAIL,
            asks(
                "Maya Lindqvist",
                "maya.lindqvist@example.com",
                Category.BILLING,
                "What is the set-up fee on my invoice?",
                "Hello, my second invoice has a line 'set-up 80.00' that was not on the first one. What is it for?",
            ),
        ),
    ),
    story(
        "the tag that does not fire",
        on(
            "-1 02:05",
            MAIL,
            asks(
                "佐藤 美咲",
                "m.sato@example.net",
                Category.TECHNICAL,
                "トラッキングタグが動作していません",
                "先週から購入完了ページのタグが発火していないようです。広告の数値がゼロのままです。ご確認をお願いいたします。",
                bought=Buying("SO-2107", "リターゲティング M", "120000 JPY", "-30 03:00", "-27 01:00", "-20 05:00"),
            ),
        ),
        on("-1 02:07", MAIL, attaches("スクリーンショット.png", "image/png", PIXEL_PNG)),
    ),
    story(
        "a campaign that has not begun",
        on(
            "-4 09:10",
            MAIL,
            asks(
                "ليلى منصور",
                "leila.mansour@example.org",
                Category.DELAY,
                "متى تبدأ الحملة؟",
                "دفعنا ثمن الحملة قبل ثلاثة أسابيع، وقيل لنا إنها ستبدأ خلال أيام. لم يبدأ شيء حتى الآن. أرجو الرد.",
                bought=Buying("SO-2088", "Launch", "840.00 EUR", "-25 12:00"),
            ),
        ),
    ),
    story(
        "an invoice to another company",
        on(
            "-2 13:30",
            MAIL,
            asks(
                "Kacper Zieliński",
                "k.zielinski@example.com",
                Category.BILLING,
                "Proszę o fakturę na inną firmę",
                "Dzień dobry, fakturę za kampanię wystawiono na starą nazwę firmy. Czy można ją poprawić?",
            ),
        ),
        on("-2 15:02", ANA, recategorizes(Category.OTHER, "A change of address, no dispute about the amount")),
        on(
            "-2 15:06",
            ANA,
            answers(
                "Dzień dobry, oczywiście. Proszę podać nową nazwę, adres i NIP, a wystawimy korektę.", awaits_reply=True
            ),
        ),
    ),
    story(
        "a letter from Thessaloniki",
        on(
            "-3 10:20",
            LOU,
            asks(
                "Ελένη Παπαδοπούλου",
                "eleni.p@example.org",
                Category.MISCOMMUNICATION,
                "Λάθος γλώσσα στα κείμενα",
                "Οι αγγελίες μας βγήκαν στα αγγλικά, ενώ είχαμε συμφωνήσει για ελληνικά.",
                bought=Buying("SO-2079", "Search and social", "450.00 EUR", "-33 09:00", "-30 09:00", "-24 09:00"),
                received="-5 10:00",
            ),
        ),
        on("-3 10:24", LOU, notes("Came as a paper letter; scanned and filed under post 117.")),
        on("-3 10:26", LOU, assigns(BO, "Bo wrote the texts with her")),
        tries("-3 11:00", BO, offers("The texts again, in Greek", "4 00:00", "She may have what was agreed")),
    ),
    story(
        "a stranger asks about the double charge",
        on(
            "-1 14:12",
            MAIL,
            asks(
                "Accounts",
                "accounts@example.net",
                Category.BILLING,
                "Re: Подвійне списання за рахунком 2031",
                "Please send the refund for this case to the new account below.",
                unverified_of="a double charge in Lviv",
            ),
        ),
        on("-1 15:20", BO, notes("Another sender than the client's. Not to be acted on before we have asked her.")),
    ),
)

INVESTIGATING = (
    story(
        "a double charge in Lviv",
        on(
            "-6 08:14",
            MAIL,
            asks(
                "Олена Шевченко",
                "o.shevchenko@example.com",
                Category.BILLING,
                "Подвійне списання за рахунком 2031",
                "Добрий день! За рахунком 2031 гроші списали двічі. Виписку з банку додаю. Прошу повернути 240 євро.",
                bought=Buying("SO-2031", "Retargeting S", "480.00 EUR", "-41 10:00", "-39 08:00", "-30 12:00"),
            ),
        ),
        on("-6 08:15", MAIL, attaches("виписка.csv", "text/csv", STATEMENT_CSV)),
        on("-6 09:30", ANA, investigates("Plain case; the statement is attached")),
        on("-6 09:41", ANA, answers("Добрий день, пані Олено! Дякуємо за виписку. Перевіряємо з бухгалтерією.")),
        on("-5 10:02", ANA, checks("Compared with the ledger of accounts, page 88")),
        on("-5 10:05", ANA, states(GroundKind.BILLING_ERROR, "240.00 EUR", "Invoice 2031 was collected twice")),
        on("-2 09:12", ANA, finds("Two debits of 240.00 on the same day, one invoice; statement and ledger agree")),
        on("-2 09:20", ANA, proposes_refund("240.00 EUR", "The second debit goes back")),
        on("-2 09:31", ANA, answers("Помилку підтверджено. Повернення 240 євро чекає на схвалення колеги.")),
        tries("-2 09:40", ANA, approves("It is obvious")),
    ),
    story(
        "half a year of mobile ads",
        on(
            "-12 11:30",
            MAIL,
            asks(
                "Harriet Okafor-Featherstonehaugh",
                "harriet@brightwater-and-daughters.example.org",
                Category.UNDELIVERED,
                "Mobile placements never ran",
                "Our contract promised mobile placements from the first month. For half a year the reports have shown"
                " desktop only. We expect the mobile share back.",
                bought=Buying("SO-1874", "Annual programme", "21600.00 EUR", "-60 09:00", "-58 09:00", "-50 09:00"),
            ),
        ),
        on("-12 12:05", LOU, investigates("A large sum; I take it myself with Bo", BO)),
        on("-12 12:20", BO, answers("Thank you for the figures. We compare them with the placement logs this week.")),
        on("-9 14:10", BO, checks("Contract SO-1874 and six invoices, all paid")),
        on(
            "-9 14:22",
            BO,
            states(GroundKind.UNDELIVERED_PART, "7800.00 EUR", "Mobile placements, promised from month one, never ran"),
        ),
        on("-7 10:40", BO, finds("Placement logs of all six months: no mobile impression. Share by price list: 7,800")),
        on(
            "-6 15:15", LOU, proposes_refund("7800.00 EUR", "The whole mobile share; the client has waited long enough")
        ),
        tries("-6 15:16", LOU, approves("Checked twice")),
        on("-5 09:05", CLEO, approves("Logs and contract agree; above 5,000 a second approver has to look as well")),
        on("-5 09:30", BO, answers("One of two approvals is there. You hear from us as soon as the second one is.")),
    ),
    story(
        "translated into the wrong Chinese",
        on(
            "-8 03:20",
            MAIL,
            asks(
                "陳怡君",
                "yichun.chen@example.com",
                Category.MISCOMMUNICATION,
                "廣告文案用了簡體字",
                "我們的客戶在台灣,合約寫明使用繁體中文,但廣告以簡體字刊登了兩週。希望得到合理的補償。",
                bought=Buying("SO-2052", "Creative set", "600.00 EUR", "-35 03:00", "-33 02:00", "-22 02:00"),
            ),
        ),
        on("-8 08:30", BO, investigates("I know the account")),
        on("-8 08:44", BO, answers("您好,非常抱歉。我們正在查明原因,並會盡快提出補償方案。")),
        on("-4 09:00", BO, notes("Brief says zh-Hant, the export was zh-Hans. Ours, but nothing was undelivered.")),
        on(
            "-3 09:15",
            BO,
            proposes(
                CompensationKind.SERVICE_CREDIT, "150.00 EUR", "A quarter of the price for two weeks of wrong texts"
            ),
        ),
    ),
    story(
        "charged twice in March",
        on(
            "-10 07:55",
            MAIL,
            asks(
                "Jürgen Groß",
                "juergen.gross@example.com",
                Category.BILLING,
                "Doppelt abgebucht",
                "Guten Tag, Sie haben die Rechnung 2044 zweimal abgebucht. Bitte erstatten Sie einen Betrag.",
                bought=Buying("SO-2044", "Search and social", "960.00 EUR", "-38 08:00", "-36 08:00", "-29 08:00"),
            ),
        ),
        on("-10 08:40", ANA, investigates("As in the other case of this debit run")),
        on("-10 08:52", ANA, answers("Guten Tag Herr Groß, danke für die Nachricht. Wir prüfen den Einzug.")),
        on("-8 13:00", ANA, checks("Order and both debits seen in the bank's portal")),
        on("-8 13:04", ANA, states(GroundKind.BILLING_ERROR, "480.00 EUR", "Second debit of invoice 2044")),
        on("-7 09:20", ANA, finds("The debit run of that day was sent twice; confirmed by the bank")),
        on("-7 09:26", ANA, proposes_refund("480.00 EUR", "One of the two debits")),
        on("-6 11:10", LOU, approves("Same cause as two other cases, the bank's letter is on file")),
        on("-1 10:30", CLEO, begins_payout("Transfer ordered, value date tomorrow")),
        on("-1 10:35", ANA, answers("Guten Tag Herr Groß, die Überweisung über 480,00 EUR ist beauftragt.")),
    ),
    story(
        "a broken feed in Torino",
        on(
            "-15 09:00",
            MAIL,
            asks(
                "Giulia Ferraro",
                "giulia.ferraro@example.net",
                Category.TECHNICAL,
                "Il feed dei prodotti era vuoto",
                "Buongiorno, per dieci giorni gli annunci hanno mostrato prodotti esauriti perché il feed era vuoto.",
                bought=Buying("SO-2019", "Retargeting L", "1300.00 EUR", "-45 08:00", "-43 08:00", "-37 08:00"),
            ),
        ),
        on("-15 10:10", BO, investigates("Feed problems are mine this week")),
        on(
            "-15 10:25", BO, answers("Buongiorno Giulia, stiamo confrontando i registri del feed. Le scriviamo presto.")
        ),
        on("-13 09:00", BO, checks("Order and payment are in the books")),
        on("-13 09:08", BO, states(GroundKind.TECHNICAL_FAILURE, "430.00 EUR", "Ten days of ads with an empty feed")),
        on("-12 16:00", BO, finds("Our importer failed from the 3rd to the 12th; hers was fine")),
        on("-12 16:10", BO, proposes_refund("430.00 EUR", "Ten of thirty days")),
        on("-11 10:00", DIRK, refuses("Her own shop was offline on five of the ten days. Half of it at most, please")),
        on(
            "-11 11:20",
            BO,
            notes("Dirk is right: the shop's status page says so. Ask for her side before the next one."),
        ),
        on("-4 10:00", BO, answers("Abbiamo visto che il negozio era offline per cinque giorni. Può confermarlo?")),
    ),
    story(
        "paid less than we thought",
        on(
            "-14 12:00",
            MAIL,
            asks(
                "Lucía Fernández Ortega",
                "lucia@example.org",
                Category.UNDELIVERED,
                "Faltan los anuncios de vídeo",
                "El paquete incluía tres vídeos y solo hemos recibido dos. Pedimos la devolución de lo que falta.",
                bought=Buying("SO-2008", "Creative set", "900.00 EUR", "-48 10:00", "-46 09:00", "-20 09:00"),
            ),
        ),
        on("-14 13:15", ANA, investigates("The third video was with the studio")),
        on("-14 13:30", ANA, answers("Hola Lucía, estamos hablando con el estudio y le respondemos esta semana.")),
        on("-11 09:30", ANA, checks("By the order form")),
        on("-11 09:33", ANA, states(GroundKind.UNDELIVERED_PART, "300.00 EUR", "One of three videos is missing")),
        on("-10 15:00", ANA, finds("The studio confirms that it was never produced")),
        on("-10 15:10", ANA, proposes_refund("300.00 EUR", "A third of the price")),
        on("-9 10:00", LOU, approves("Clear")),
        on(
            "-5 12:40",
            ANA,
            records(Buying("SO-2008", "Creative set", "810.00 EUR", "-48 10:00", "-46 09:00", "-20 09:00")),
        ),
        on(
            "-5 12:45",
            ANA,
            notes("Ten per cent were deducted at the time: 810, not 900. The approval is void with it."),
        ),
        on("-4 16:20", ANA, answers("Hola Lucía, hemos corregido el importe del pedido y lo revisamos de nuevo.")),
    ),
    story(
        "clicks without visits",
        on(
            "-5 14:45",
            MAIL,
            asks(
                "Camille Lefèvre",
                "camille.lefevre@example.com",
                Category.TECHNICAL,
                "Des clics, mais aucune visite",
                "Bonjour, vos rapports montrent 2 300 clics, notre site n'en voit que 40. Que se passe-t-il ?",
                bought=Buying("SO-2095", "Search and social", "700.00 EUR", "-19 09:00", "-17 09:00", "-12 09:00"),
            ),
        ),
        on("-5 15:30", BO, investigates("Looks like a consent banner that eats the tag")),
        on(
            "-4 09:20",
            BO,
            answers(
                "Bonjour Camille, pourriez-vous nous donner accès à votre gestionnaire de balises ?", awaits_reply=True
            ),
        ),
    ),
    story(
        "a refund that came back",
        on(
            "-24 10:00",
            MAIL,
            asks(
                "Andrei Ionescu",
                "andrei.ionescu@example.net",
                Category.BILLING,
                "Factură plătită de două ori",
                "Bună ziua, am plătit factura 1990 de două ori din greșeala sistemului dumneavoastră.",
                bought=Buying("SO-1990", "Retargeting S", "380.00 EUR", "-52 09:00", "-50 09:00", "-40 09:00"),
            ),
        ),
        on("-24 10:40", ANA, investigates("Known from the debit run")),
        on("-24 10:55", ANA, answers("Bună ziua, verificăm plata și revenim în câteva zile.")),
        on("-22 09:00", ANA, checks("Books and bank agree")),
        on("-22 09:04", ANA, states(GroundKind.BILLING_ERROR, "190.00 EUR", "Invoice 1990 was collected twice")),
        on("-22 09:30", ANA, finds("Two debits, one invoice")),
        on("-22 09:33", ANA, proposes_refund("190.00 EUR", "The second debit")),
        on("-21 11:00", LOU, approves("As described")),
        on("-20 10:00", DIRK, refunds("TR-3318", "Transferred")),
        on("-20 10:20", ANA, answers("Am returnat 190 EUR. Vă rugăm să ne confirmați primirea.")),
        on("-9 08:30", MAIL, writes("Nu am primit banii. Contul vechi a fost închis.")),
        on("-8 09:45", DIRK, resumes(ResumeReason.PAYMENT_FAILED, "The bank returned TR-3318: account closed")),
        on("-8 10:05", ANA, answers("Ne pare rău. Ne puteți trimite noul cont?", awaits_reply=True)),
    ),
    story(
        "a pixel that was never removed",
        on(
            "-7 10:10",
            MAIL,
            asks(
                "Elif Yıldız",
                "elif.yildiz@example.com",
                Category.TECHNICAL,
                "Piksel kodu siteyi yavaşlattı",
                "Merhaba, piksel kodunuz yüzünden sitemiz iki gün boyunca açılmadı. Paramızı geri istiyoruz.",
                bought=Buying("SO-2066", "Retargeting M", "540.00 EUR", "-28 10:00", "-26 10:00", "-21 10:00"),
            ),
        ),
        on("-7 11:00", BO, investigates("I ask the engineers")),
        on("-7 11:20", BO, answers("Merhaba Elif Hanım, teknik ekiple inceliyoruz ve size yazacağız.")),
        on("-5 15:40", BO, checks("Paid in full, delivered on time")),
        on("-5 15:44", BO, states(GroundKind.TECHNICAL_FAILURE, "540.00 EUR", "Two days of downtime, by her account")),
        on("-3 14:00", BO, finds("The outage was her host's, by its own report; our tag answered", verified=False)),
        tries("-3 14:10", BO, proposes_refund("540.00 EUR", "Goodwill")),
        on(
            "-3 14:30",
            BO,
            answers("Kesinti barındırma firmasından kaynaklanmış. Yine de size bir danışma önerebiliriz."),
        ),
    ),
    story(
        "silence after the audit",
        on(
            "-26 09:00",
            MAIL,
            asks(
                "Tomáš Dvořák",
                "tomas.dvorak@example.org",
                Category.DELAY,
                "Kdy dostaneme výsledky auditu?",
                "Dobrý den, audit kampaně měl být hotový před měsícem. Prosím o zprávu.",
                bought=Buying("SO-1951", "Audit", "250.00 EUR", "-58 09:00", "-50 09:00"),
            ),
        ),
        on("-26 10:30", ANA, investigates("The audit lies with the analysts")),
        on("-26 10:40", ANA, answers("Dobrý den, audit dokončujeme, ozveme se do konce týdne.")),
        on("-11 08:20", MAIL, writes("Dobrý den, stále nic. Co se děje?")),
        tries("-10 16:00", ANA, closes(Resolution.EXPLAINED, "The audit is nearly done")),
    ),
    story(
        "a question that was not settled",
        on(
            "-30 12:10",
            MAIL,
            asks(
                "Åsa Bergström",
                "asa.bergstrom@example.com",
                Category.RESULTS,
                "Varför sjönk klickfrekvensen?",
                "Hej! Klickfrekvensen har halverats sedan i våras. Är något fel i inställningarna?",
                bought=Buying("SO-1937", "Search and social", "620.00 EUR", "-61 09:00", "-60 09:00", "-55 09:00"),
            ),
        ),
        on("-30 13:00", BO, investigates("Settings first, then the season")),
        on("-28 09:30", BO, answers("Hej Åsa! Inställningarna är oförändrade; hela branschen ser samma nedgång i år.")),
        on("-27 10:00", MAIL, writes("Tack, då vet jag.")),
        on("-27 11:00", BO, needs_no_answer("Only thanks")),
        on("-26 09:00", BO, closes(Resolution.EXPLAINED, "Season and competition, no fault in the settings")),
        on("-6 15:05", MAIL, writes("Hej igen, vi hittade en felaktig målgrupp i kontot. Kan ni titta på det?")),
        on("-5 08:50", BO, reopens("Something new: an audience that is not ours to blame on the season")),
        on("-5 09:10", BO, answers("Hej Åsa! Tack, vi öppnar ärendet igen och granskar målgruppen.")),
    ),
    story(
        "the other half of Nordlicht",
        on(
            "-5 09:40",
            MAIL,
            asks(
                "Nordlicht Buchhaltung",
                "buchhaltung@nordlicht.example.org",
                Category.BILLING,
                "Noch eine Abweichung in SO-1980",
                "Guten Tag, außer der Technikstörung stimmt auch der Rabatt in der Rechnung nicht: 5 % fehlen.",
                bought="SO-1980",
            ),
        ),
        on("-5 10:15", ANA, investigates("Same purchase as the outage, other question")),
        on("-5 10:20", ANA, links(LinkKind.RELATED, "an outage at Nordlicht")),
        on("-5 10:30", ANA, answers("Guten Tag, wir gleichen den Rabatt mit dem Vertrag ab.")),
        on(
            "-4 11:00",
            ANA,
            states(GroundKind.BILLING_ERROR, "60.00 EUR", "A discount of 5 % is missing in the invoice"),
        ),
    ),
    story(
        "cancelled on the tenth day",
        on(
            "-9 13:15",
            MAIL,
            asks(
                "Beatriz Moura",
                "beatriz.moura@example.net",
                Category.CANCELLATION,
                "Quero cancelar o pacote",
                "Olá, comprei o pacote há dez dias e mudei de ideia. Quero o dinheiro de volta, por favor.",
                bought=Buying("SO-2071", "Launch", "1500.00 EUR", "-19 13:00", "-17 09:00", "-12 09:00"),
            ),
        ),
        on("-9 14:00", BO, investigates("Dates decide this one")),
        on("-8 09:10", BO, checks("Bought ten days before she wrote; creative work handed over since")),
        tries("-8 09:20", BO, proposes_refund("1500.00 EUR", "She is very unhappy")),
        tries("-8 09:40", CLEO, resumes(ResumeReason.PAYMENT_FAILED, "Nothing was paid back")),
        on(
            "-8 10:00",
            BO,
            answers("Olá Beatriz, o prazo de sete dias terminou e o trabalho já foi entregue. Vamos falar?"),
        ),
        on("-7 16:30", MAIL, writes("Isso é injusto. Quero falar com a sua chefe.")),
        on("-7 16:50", LOU, assigns(ANA, "A fresh pair of eyes, and Portuguese")),
        on("-6 09:30", ANA, answers("Olá Beatriz, sou a Ana. Li tudo com calma e proponho uma chamada amanhã.")),
    ),
    story(
        "an account that takes no transfers",
        on(
            "-18 09:25",
            MAIL,
            asks(
                "Kovács Eszter",
                "eszter.kovacs@example.com",
                Category.BILLING,
                "Téves összeg a számlán",
                "Tisztelt Cím! A számla 90 euróval több, mint a megrendelés. Kérem a különbözetet vissza.",
                bought=Buying("SO-2003", "Search and social", "590.00 EUR", "-44 08:00", "-42 08:00", "-35 08:00"),
            ),
        ),
        on("-18 10:00", BO, investigates("Order and invoice side by side")),
        on("-18 10:20", BO, answers("Tisztelt Kovács Eszter! Ellenőrizzük a számlát, hamarosan jelentkezünk.")),
        on("-16 09:00", BO, checks("Order 500.00, invoice and payment 590.00")),
        on("-16 09:05", BO, states(GroundKind.BILLING_ERROR, "90.00 EUR", "Invoiced 590.00 for an order of 500.00")),
        on("-15 13:00", BO, finds("A price list of last year was used")),
        on("-15 13:10", BO, proposes_refund("90.00 EUR", "The difference")),
        on("-14 09:40", LOU, approves("A plain error")),
        on("-12 10:00", ELI, begins_payout("By transfer")),
        on("-10 10:15", ELI, fails_payout("The bank says that the account takes no transfers from abroad")),
        on("-9 11:00", BO, answers("Kérjük, adjon meg egy másik számlaszámot.", awaits_reply=True)),
        on("-3 12:00", MAIL, writes("Elküldtem az új számlaszámot a biztonságos űrlapon.")),
    ),
)

OFFERED = (
    story(
        "an audience too young",
        on(
            "-11 06:30",
            MAIL,
            asks(
                "김민준",
                "minjun.kim@example.org",
                Category.RESULTS,
                "광고 효과가 기대보다 낮습니다",
                "등산용품 광고가 10대에게만 노출되는 것 같습니다. 타겟을 조정해 주실 수 있나요?",
                bought=Buying("SO-2059", "Retargeting M", "980.00 EUR", "-31 05:00", "-29 05:00", "-22 05:00"),
            ),
        ),
        on("-11 09:00", ANA, investigates("Audience settings")),
        on("-11 09:20", ANA, answers("안녕하세요. 타겟 설정을 확인하고 답변드리겠습니다.")),
        on("-8 10:00", ANA, notes("The age range was left at 13+. No promise was broken, but it can be done better.")),
        on(
            "-2 10:30",
            ANA,
            offers(
                "Two weeks with an audience of 30 to 60, at our cost", "6 00:00", "P3: nothing is due back, help is"
            ),
        ),
        on("-2 10:33", ANA, answers("30~60세 타겟으로 2주간 무료로 다시 집행해 드리겠습니다. 회신 부탁드립니다.")),
    ),
    story(
        "an offer without an answer",
        on(
            "-20 17:20",
            MAIL,
            asks(
                "Rafael Nogueira",
                "rafael@example.com",
                Category.MISCOMMUNICATION,
                "Cores erradas nos banners",
                "Boa tarde, os banners saíram com as cores antigas da nossa marca.",
                bought=Buying("SO-2027", "Creative set", "350.00 EUR", "-40 12:00", "-38 12:00", "-25 12:00"),
            ),
        ),
        on("-19 09:30", BO, investigates("The new colours came by mail after the brief")),
        on("-19 09:45", BO, answers("Boa tarde Rafael, estamos a verificar com o estúdio.")),
        on(
            "-12 11:00", BO, offers("All banners again in the new colours", "-3 00:00", "Half our fault, and soon done")
        ),
        on(
            "-12 11:05",
            BO,
            answers("Podemos refazer todos os banners sem custos. Responda, por favor, até à data indicada."),
        ),
    ),
    story(
        "declined, then better",
        on(
            "-17 08:00",
            MAIL,
            asks(
                "Familie Weiß, Gasthof zur Post",
                "post@gasthof.example.net",
                Category.RESULTS,
                "Wenig Buchungen",
                "Grüß Gott, die Anzeigen laufen, aber das Haus ist leer. So war das nicht gedacht.",
                bought=Buying("SO-2038", "Search and social", "750.00 EUR", "-37 08:00", "-35 08:00", "-30 08:00"),
            ),
        ),
        on("-17 09:10", ANA, investigates("Results alone give no refund (P7), but there is much to do better")),
        on("-17 09:30", ANA, answers("Grüß Gott, wir sehen uns die Kampagne an und melden uns bis Freitag.")),
        on("-14 10:00", ANA, offers("Other search words", "-6 00:00", "The words are too general")),
        on("-13 07:40", MAIL, writes("Das hatten wir schon einmal, das hat nichts gebracht.")),
        on("-13 09:00", ANA, resumes(ResumeReason.DECLINED, "They tried that last year")),
        on("-12 14:00", ANA, answers("Verstanden. Wir arbeiten einen anderen Vorschlag aus.")),
        on(
            "-3 15:30",
            ANA,
            offers("A campaign for midweek stays, with new pictures", "4 00:00", "Midweek is where the rooms are free"),
        ),
        on("-3 15:34", ANA, answers("Unser Vorschlag: Angebote unter der Woche, mit neuen Bildern, ohne Mehrkosten.")),
    ),
)

BOOKED = (
    story(
        "how to read the report",
        on(
            "-8 09:00",
            MAIL,
            asks(
                "Тарас Бондаренко",
                "taras.b@example.org",
                Category.OTHER,
                "Не розумію звіт",
                "Вітаю! Звіт на 40 сторінок, але головного не бачу: скільки замовлень принесла реклама?",
            ),
        ),
        on("-8 10:20", ANA, investigates("A talk will do more than a letter")),
        on("-8 10:30", ANA, answers("Вітаю, Тарасе! Пропоную розглянути звіт разом у відеодзвінку.")),
        on("-7 08:00", MAIL, writes("Так, дуже зручно. Будь-який ранок наступного тижня.")),
        on("-7 09:05", ANA, books("1 09:00", 45, "video call", "He would like to see it on his own figures")),
        on("-7 09:06", ANA, answers("Записала Вас, посилання надійде перед дзвінком.")),
    ),
    story(
        "a shop that moves",
        on(
            "-6 04:10",
            MAIL,
            asks(
                "Nguyễn Thị Hương",
                "huong.nguyen@example.com",
                Category.TECHNICAL,
                "Chuyển sang nền tảng mới",
                "Chúng tôi sắp chuyển cửa hàng sang nền tảng khác. Mã theo dõi có còn hoạt động không?",
            ),
        ),
        on("-6 09:00", BO, investigates("A move always breaks something; better to plan it together")),
        on("-6 09:20", BO, answers("Chào chị Hương, chúng tôi đề nghị một buổi trao đổi qua điện thoại.")),
        on("-4 08:30", BO, books("2 13:00", 60, "telephone", "Before the move on the weekend")),
    ),
    story(
        "two at once",
        on(
            "-5 07:30",
            MAIL,
            asks(
                "נועה לוי",
                "noa.levi@example.net",
                Category.RESULTS,
                "איך לשפר את יחס ההמרה?",
                "שלום, המודעות מביאות הרבה כניסות אך מעט רכישות. אשמח לייעוץ.",
            ),
        ),
        on("-5 08:40", ANA, investigates("Landing pages")),
        on("-5 09:00", ANA, answers("שלום נועה, נשמח לקבוע שיחת ייעוץ בשבוע הבא.")),
        tries("-4 09:00", ANA, books("1 09:30", 30, "video call", "She asked for the morning")),
        on("-4 09:02", ANA, books("4 10:00", 30, "video call", "The first free morning")),
        on("-4 09:04", ANA, answers("נקבע. קישור לשיחה יישלח אלייך.")),
    ),
    story(
        "nobody came",
        on(
            "-13 15:00",
            MAIL,
            asks(
                "Chidi Adeyemi-Thornton",
                "chidi@example.org",
                Category.CANCELLATION,
                "Thinking of leaving",
                "Before I cancel I would like to hear what you would change. So far nobody has told me.",
                bought=Buying("SO-2048", "Launch", "1200.00 EUR", "-34 09:00", "-31 09:00", "-26 09:00"),
            ),
        ),
        on("-13 15:40", BO, investigates("Worth keeping")),
        on("-13 15:50", BO, answers("Thank you for asking first. I have three ideas; may I show you on Thursday?")),
        on("-12 09:00", MAIL, writes("Thursday is fine.")),
        on("-12 09:10", BO, books("-9 14:00", 30, "video call", "He wants to hear it in person")),
        on("-12 09:11", BO, answers("Booked: Thursday, 14:00.")),
        on("-9 14:40", BO, resumes(ResumeReason.NO_SHOW, "Waited for half an hour")),
        on("-8 08:15", MAIL, writes("So sorry, my daughter was ill. Another chance?")),
        on("-8 08:30", BO, answers("Of course. Get well soon, both of you.")),
        on("-8 08:40", BO, books("3 14:00", 30, "video call", "Second try")),
    ),
)

COMPENSATED = (
    story(
        "a week too late",
        on(
            "-16 10:45",
            MAIL,
            asks(
                "Ingrid Solberg",
                "ingrid.solberg@example.com",
                Category.DELAY,
                "Kampanjen startet en uke for sent",
                "Hei, kampanjen startet en uke etter avtalt dato, midt i ferien. Hva gjør dere med det?",
                bought=Buying("SO-2022", "Launch", "900.00 EUR", "-46 09:00", "-30 09:00", "-28 09:00"),
            ),
        ),
        on("-16 11:30", BO, investigates("The delay was ours")),
        on("-16 11:40", BO, answers("Hei Ingrid, det beklager vi. Vi foreslår en kreditt og svarer denne uken.")),
        on("-14 09:00", BO, proposes(CompensationKind.SERVICE_CREDIT, "90.00 EUR", "A tenth of the price for a week")),
        on("-13 09:15", LOU, approves("Fair")),
        on("-13 10:00", BO, compensates("Credited to her account")),
        on("-13 10:05", BO, answers("Hei Ingrid, 90 euro er godskrevet kontoen din.")),
    ),
    story(
        "an extra month",
        on(
            "-22 16:00",
            MAIL,
            asks(
                "Dwayne Whitfield",
                "dwayne@example.net",
                Category.MISCOMMUNICATION,
                "We were promised weekly calls",
                "Our salesperson promised weekly calls. In two months there were three. I want this made right.",
                bought=Buying("SO-1966", "Annual programme", "18000.00 USD", "-59 15:00", "-57 15:00", "-50 15:00"),
            ),
        ),
        on("-22 16:40", BO, investigates("I ask sales")),
        on("-22 17:00", BO, answers("Thank you, Dwayne. I am asking what was agreed and will be back this week.")),
        on("-19 10:00", BO, notes("Sales: weekly calls were said, and never written down. A month of service, then.")),
        on("-18 11:00", BO, proposes(CompensationKind.EXTRA_SERVICE, "1500.00 USD", "One more month of the programme")),
        tries("-18 12:00", LOU, approves("Fair to me")),
        on("-17 09:30", CLEO, approves("A month is what was missed")),
        on("-17 10:00", BO, compensates("The programme runs a month longer")),
        on("-17 10:10", BO, answers("Your programme now runs one month longer, with a call every Monday.")),
        on("-15 14:00", MAIL, writes("That works for us. Thank you.")),
    ),
)

REFUNDED = (
    story(
        "changed her mind on the third day",
        on(
            "-6 12:25",
            MAIL,
            asks(
                "Agnieszka Wójcik",
                "agnieszka.wojcik@example.org",
                Category.CANCELLATION,
                "Rezygnacja z pakietu",
                "Dzień dobry, trzy dni temu kupiłam pakiet i rezygnuję. Prace jeszcze się nie zaczęły.",
                bought=Buying("SO-2097", "Launch", "2590.00 PLN", "-9 10:00"),
            ),
        ),
        on("-6 13:10", ANA, investigates("Within the seven days")),
        on("-6 13:20", ANA, answers("Dzień dobry, potwierdzamy rezygnację i przygotowujemy zwrot.")),
        on("-5 09:00", ANA, checks("Bought three days before, nothing begun")),
        on("-5 09:05", ANA, proposes_refund("2590.00 PLN", "P5: everything back")),
        tries("-5 09:20", BO, refunds("TR-3390", "I have the bank open")),
        on("-4 10:00", ELI, refunds("TR-3391", "Transferred")),
        on("-4 10:10", ANA, answers("Dzień dobry, zwrot 2590 zł został wysłany.")),
    ),
    story(
        "eighteen thousand yen",
        on(
            "-21 01:30",
            MAIL,
            asks(
                "高橋 健太郎",
                "kentaro.takahashi@example.com",
                Category.UNDELIVERED,
                "バナー広告が一部納品されていません",
                "契約では10種類のバナーとなっていましたが、8種類しか届いていません。不足分のご返金をお願いします。",
                bought=Buying("SO-1995", "Creative set", "90000 JPY", "-50 02:00", "-48 02:00", "-30 02:00"),
            ),
        ),
        on("-21 09:00", BO, investigates("Count the banners")),
        on("-21 09:15", BO, answers("高橋様、ご連絡ありがとうございます。納品内容を確認しております。")),
        on("-19 10:00", BO, checks("Contract and delivery note")),
        on("-19 10:05", BO, states(GroundKind.UNDELIVERED_PART, "18000 JPY", "Two of ten banners are missing")),
        on("-18 09:00", BO, finds("The delivery note lists eight")),
        on("-18 09:10", BO, proposes_refund("18000 JPY", "Two tenths of the price")),
        on("-17 09:00", CLEO, approves("As counted")),
        on("-16 09:00", DIRK, approves("As counted; the tiers go by the figure, so two of us for yen")),
        on("-15 09:30", CLEO, begins_payout("By card, to where it came from")),
        on("-14 09:30", CLEO, refunds("CH-77120", "The card company confirms")),
        on("-14 09:45", BO, answers("高橋様、18,000円のご返金手続きが完了いたしました。")),
        on("-13 02:00", MAIL, writes("確認しました。迅速なご対応ありがとうございました。")),
        on("-13 09:00", BO, answers("こちらこそ、ありがとうございました。")),
    ),
    story(
        "an outage at Nordlicht",
        on(
            "-33 08:30",
            MAIL,
            asks(
                "Nordlicht Agentur, Svenja Petersen",
                "svenja@nordlicht.example.org",
                Category.TECHNICAL,
                "Zwei Tage keine Auslieferung",
                "Moin, am 3. und 4. wurden unsere Anzeigen nicht ausgeliefert. Das sind 300 Euro zu viel.",
                bought=Buying("SO-1980", "Retargeting L", "1200.00 EUR", "-55 08:00", "-53 08:00", "-45 08:00"),
            ),
        ),
        on("-33 09:00", ANA, investigates("The outage is known")),
        on("-33 09:10", ANA, answers("Moin Svenja, der Ausfall ist bestätigt. Wir rechnen nach.")),
        on("-31 10:00", ANA, checks("Booked and paid")),
        on("-31 10:04", ANA, states(GroundKind.TECHNICAL_FAILURE, "300.00 EUR", "No delivery on two days")),
        on("-30 09:00", ANA, finds("Incident 41: our server was down for 46 hours")),
        on("-30 09:05", ANA, proposes_refund("300.00 EUR", "Two days of the flight")),
        on("-29 09:00", LOU, approves("Incident 41")),
        on("-28 09:30", ELI, refunds("TR-3275", "Transferred")),
        on("-28 09:40", ANA, answers("Moin Svenja, 300,00 EUR sind unterwegs.")),
    ),
    story(
        "dinars to three decimals",
        on(
            "-19 08:05",
            MAIL,
            asks(
                "خالد العتيبي",
                "khaled@example.net",
                Category.BILLING,
                "خطأ في سعر الصرف",
                "تم تحويل المبلغ بسعر صرف خاطئ، والفرق خمسة وأربعون دينارًا ونصف. أرجو إعادته.",
                bought=Buying("SO-2015", "Search and social", "310.500 KWD", "-42 08:00", "-40 08:00", "-33 08:00"),
            ),
        ),
        on("-19 09:00", BO, investigates("Rates of that day")),
        on("-19 09:20", BO, answers("مرحبًا خالد، نراجع سعر الصرف وسنعود إليك.")),
        on("-17 10:00", BO, checks("Paid 310.500")),
        on("-17 10:05", BO, states(GroundKind.BILLING_ERROR, "45.500 KWD", "The rate of another day was used")),
        on("-16 10:00", BO, finds("Rate table against invoice: 45.500 too much")),
        on("-16 10:05", BO, proposes_refund("45.500 KWD", "The difference")),
        on("-15 09:00", LOU, approves("Small and plain")),
        on("-14 11:00", DIRK, begins_payout("By transfer")),
        on("-12 10:00", DIRK, refunds("TR-3352", "The bank confirms")),
        on("-12 10:10", BO, answers("تم تحويل المبلغ 45.500 دينار. شكرًا لصبرك.")),
    ),
    story(
        "started, and nothing handed over",
        on(
            "-3 09:50",
            MAIL,
            asks(
                "Reto Hürlimann",
                "reto.huerlimann@example.com",
                Category.CANCELLATION,
                "Storno SO-2102",
                "Grüezi, ich möchte den Auftrag stornieren. Ausser einem Telefonat ist noch nichts passiert.",
                bought=Buying("SO-2102", "Creative set", "1250.00 CHF", "-7 09:00", "-5 08:00"),
            ),
        ),
        on("-3 10:30", BO, investigates("Planning began, nothing was delivered: P5 says or")),
        on("-3 10:40", BO, answers("Grüezi Herr Hürlimann, die Stornierung ist notiert, die Rückzahlung folgt.")),
        on("-2 11:00", BO, checks("Bought four days before he wrote, one call in the calendar, no files")),
        on("-2 11:10", BO, proposes_refund("1250.00 CHF", "P5: nothing was handed over")),
        on("-1 09:15", DIRK, refunds("TR-3402", "Transferred")),
        on("-1 09:25", BO, answers("Grüezi Herr Hürlimann, CHF 1250.00 sind überwiesen.")),
    ),
)

CLOSED = (
    story(
        "fewer clicks in summer",
        on(
            "-40 10:00",
            MAIL,
            asks(
                "Siobhán O'Rourke",
                "siobhan@example.org",
                Category.RESULTS,
                "Clicks down by a third",
                "Our clicks fell by a third in July. Did you change anything?",
                bought=Buying("SO-1902", "Search and social", "800.00 EUR", "-62 09:00", "-61 09:00", "-56 09:00"),
            ),
        ),
        on("-40 10:45", ANA, investigates("Seasonal, I think")),
        on(
            "-39 09:00",
            ANA,
            answers("Nothing was changed. Here is the same month of the last three years, side by side."),
        ),
        on("-38 12:00", MAIL, writes("I see. That explains it, thank you.")),
        on("-38 13:00", ANA, needs_no_answer("Only thanks")),
        on("-38 13:05", ANA, closes(Resolution.EXPLAINED, "The season, shown by three years of figures")),
    ),
    story(
        "no more sales than before",
        on(
            "-35 11:20",
            MAIL,
            asks(
                "Joaquín Herrera",
                "joaquin.herrera@example.com",
                Category.RESULTS,
                "No he vendido más",
                "La campaña terminó y no vendí más que antes. Quiero que me devuelvan el dinero.",
                bought=Buying("SO-1911", "Launch", "1100.00 EUR", "-60 10:00", "-58 10:00", "-52 10:00"),
            ),
        ),
        on("-35 12:00", BO, investigates("What was promised, and what was done")),
        on("-34 09:30", BO, checks("Everything in the order was delivered")),
        on(
            "-33 10:00",
            BO,
            answers("Hola Joaquín: todo lo contratado se entregó. Los resultados no se pueden garantizar (P7)."),
        ),
        on("-31 10:00", BO, closes(Resolution.NO_REFUND_DUE, "P4 and P7; adjustments were offered and not wanted")),
    ),
    story(
        "a wrong currency",
        on(
            "-32 09:15",
            MAIL,
            asks(
                "Katharina Vogt",
                "k.vogt@example.net",
                Category.BILLING,
                "In Dollar statt Euro berechnet",
                "Sehr geehrte Damen und Herren, die Rechnung wurde in Dollar statt in Euro gestellt.",
                bought=Buying("SO-1922", "Retargeting S", "400.00 EUR", "-57 09:00", "-56 09:00", "-49 09:00"),
            ),
        ),
        on("-32 09:50", BO, investigates("Currency on order and invoice")),
        on("-32 10:00", BO, answers("Sehr geehrte Frau Vogt, danke für den Hinweis, wir prüfen das.")),
        on("-30 09:00", BO, checks("Order in euros, collected by the dollar list")),
        on("-30 09:03", BO, states(GroundKind.BILLING_ERROR, "35.20 EUR", "The dollar price list was used")),
        on("-29 14:00", BO, finds("35.20 too much at that day's rate")),
        on("-29 14:05", BO, proposes_refund("35.20 EUR", "The difference")),
        on("-28 10:00", LOU, approves("Plain")),
        on("-27 10:00", CLEO, refunds("TR-3281", "Transferred")),
        on("-27 10:10", BO, answers("Sehr geehrte Frau Vogt, 35,20 EUR sind überwiesen. Entschuldigen Sie bitte.")),
        on("-25 08:00", MAIL, writes("Betrag ist eingegangen. Danke für die schnelle Hilfe!")),
        on("-25 09:00", BO, answers("Sehr gern. Alles Gute!")),
        on("-25 09:02", BO, closes(Resolution.REMEDY_ACCEPTED, "The money has arrived, by her own word")),
        on("-20 18:00", MAIL, writes("Noch einmal vielen Dank, wir empfehlen Sie gern weiter.")),
    ),
    story(
        "an hour about keywords",
        on(
            "-29 13:00",
            MAIL,
            asks(
                "Оксана Мельник",
                "oksana.melnyk@example.org",
                Category.OTHER,
                "Ключові слова для нового сезону",
                "Добрий день, чи могли б ви порадити ключові слова для зимової колекції?",
            ),
        ),
        on("-29 14:00", ANA, investigates("My field")),
        on("-29 14:10", ANA, answers("Добрий день! Із задоволенням, домовмося про консультацію.")),
        on("-28 10:00", ANA, books("-23 10:00", 60, "video call", "Winter collection")),
        on("-23 11:10", ANA, notes("Held. List of forty words sent through the client area.")),
        on("-21 09:00", ANA, closes(Resolution.REMEDY_ACCEPTED, "The consultation took place and she has her list")),
    ),
    story(
        "accents in the headlines",
        on(
            "-27 08:45",
            MAIL,
            asks(
                "Aurélie Béranger",
                "aurelie.beranger@example.net",
                Category.MISCOMMUNICATION,
                "Des fautes dans les titres",
                "Bonjour, tous les accents ont disparu de nos titres. C'est du plus mauvais effet.",
                bought=Buying("SO-1940", "Creative set", "420.00 EUR", "-56 09:00", "-54 09:00", "-34 09:00"),
            ),
        ),
        on("-27 09:30", BO, investigates("Encoding, surely")),
        on("-27 09:40", BO, answers("Bonjour Aurélie, nous corrigeons cela dès aujourd'hui.")),
        on("-26 15:00", BO, offers("All headlines set again, read by a native speaker", "-20 00:00", "Our slip")),
        on("-24 09:00", MAIL, writes("C'est parfait maintenant, merci.")),
        on("-24 09:30", BO, answers("Avec plaisir, et toutes nos excuses.")),
        on("-24 09:35", BO, closes(Resolution.REMEDY_ACCEPTED, "She has seen the new headlines and likes them")),
    ),
    story(
        "found it herself",
        on(
            "-12 10:40",
            MAIL,
            asks(
                "Mette Kjær",
                "mette.kjaer@example.com",
                Category.BILLING,
                "Mangler en faktura",
                "Hej, vi mangler fakturaen for sidste måned.",
            ),
        ),
        on("-12 11:30", MAIL, writes("Glem det, den lå i spam-mappen. Undskyld ulejligheden!")),
        on("-12 12:00", BO, answers("Hej Mette, godt at høre. Sig endelig til en anden gang.")),
        on("-12 12:01", BO, closes(Resolution.WITHDRAWN, "She found the invoice")),
    ),
    story(
        "asked, and never heard again",
        on(
            "-44 16:10",
            MAIL,
            asks(
                "Bram de Vries",
                "bram@example.org",
                Category.DELAY,
                "Waar blijft mijn rapport?",
                "Goedemiddag, ik wacht al twee weken op het rapport.",
            ),
        ),
        on("-43 09:00", ANA, investigates("Which report does he mean?")),
        on("-43 09:10", ANA, answers("Goedemorgen Bram, om welke campagne gaat het?", awaits_reply=True)),
        on("-42 09:00", MAIL, bounces("Mailbox full")),
        on(
            "-41 09:30", ANA, answers("Goedemorgen Bram, tweede poging: om welke campagne gaat het?", awaits_reply=True)
        ),
        on("-22 09:00", ANA, closes(Resolution.NO_RESPONSE, "Three weeks without an answer")),
    ),
    story(
        "the same letter again",
        on(
            "-5 08:30",
            MAIL,
            asks(
                "Олена Шевченко",
                "olena.sh@example.net",
                Category.BILLING,
                "Подвійне списання 2031",
                "Пишу ще раз з іншої адреси: за рахунком 2031 гроші списали двічі.",
            ),
        ),
        on("-5 09:00", ANA, notes("Called her: it is she, from her private address.")),
        on("-5 09:05", ANA, closes(Resolution.DUPLICATE, "The same request", "a double charge in Lviv")),
    ),
    story(
        "followers by the thousand",
        on(
            "-15 03:00",
            MAIL,
            asks(
                "Growth Partners",
                "hello@growth.example.org",
                Category.OTHER,
                "RE: your growth!!!",
                "Dear sir, buy 10000 followers today. [b]Best price[/b]",
            ),
        ),
        on("-15 08:30", LOU, corrects_receipt("-15 02:58", "The time of our own mail server")),
        on("-15 08:32", LOU, closes(Resolution.SPAM, "Advertising")),
    ),
)

STORIES: tuple[Story, ...] = (
    *OPENED,
    *INVESTIGATING,
    *OFFERED,
    *BOOKED,
    *COMPENSATED,
    *REFUNDED,
    *CLOSED,
)

# Mail that opened nothing: when, why, from whom, subject, text.
SET_ASIDE = (
    ("-18 05:00", "newsletter", "news@letters.example.org", "Ten trends for autumn", "To unsubscribe, click here."),
    ("-7 12:21", "auto_reply", "maya.lindqvist@example.com", "Out of office", "I am back on Monday."),
)

# When the auditor read which case.
READS = (
    ("-10 14:00", "a wrong currency"),
    ("-2 15:30", "half a year of mobile ads"),
)
