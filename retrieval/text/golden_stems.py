"""Words of each language with their stems: what version 1 of the analyser means by stemming.

Stems change between releases of PyStemmer, and a collection stores them. `stemming` compares what
the installed release makes of these words, and of others made from their beginnings and endings,
with what is here. Made with PyStemmer 3.1.0; never changed for a version of the analyser.
"""

from __future__ import annotations

# A word, and its stem after a slash if the two differ.
GOLDEN = {
    "arabic": (
        "الكتاب/كتاب والكتب المدرسة/مدرس مدرسون/مدرس يكتبون/يكتب كتابات/كتابا المعلمين/معلم "
        "بالقلم/قلم للأطفال/اطفال سيارات/يارا مكتبتهم/مكتب فاستخدموا/فاستخدم الجامعية/جامع "
        "مسلمات/مسلما قالت/قال تعلمنا/تعلم"
    ),
    "armenian": (
        "գրքերը տներում/տներ քաղաքների/քաղ մարդկանց/մարդկ գրում աշխատանքները/աշխ "
        "գեղեցիկություն/գեղեցիկությ ուսուցիչները/ուսուց երեխաներին/երեխ դպրոցական/դպրոց "
        "գնացին/գնաց խոսելով/խոս"
    ),
    "basque": (
        "etxeetan/etxe liburuak/liburu gizonarentzat/gizo mendietatik/mendietat "
        "hizkuntzaren/hiz ikasleekin/ikaslee irakasleak/irakasle handiagoa etorriko/etorri "
        "zuhaitzen/zuhai emakumeei egunero/egun"
    ),
    "catalan": (
        "cases/case llibres/llibr treballadors/treball cantàvem/cant nacionalitats/nacional "
        "ràpidament/rapid ciutadania/ciutadan menjaríem/menj estudiants/estud parlaven/parl "
        "històries/histor importància/importanc"
    ),
    "danish": (
        "bøgerne/bøg husene/hus arbejderne/arbejd kærligheden/kær løbende/løb "
        "smukkeste/smukkest undervisningen/undervisning børnenes/børn friheder/frihed "
        "mulighederne/mulighed skriver/skriv vigtigste/vigt selvver/selvv"
    ),
    "dutch": (
        "boeken/boek huizen/huis werkers/werker mogelijkheden/molijk lopende/loop "
        "kinderen/kinder vriendelijkheid/vriendelijk schrijvers/schrijver grootste/grootst "
        "vrijheid gelopen/loop lichamelijk bedrijven/bedrijf"
    ),
    "english": (
        "running/run flies/fli happily/happili nationalization/nation relational/relat "
        "conditional/condit hopefulness/hope generously/generous electricity/electr "
        "caresses/caress ponies/poni agreed/agre plastered/plaster conflated/conflat "
        "troubled/troubl filing/file happy/happi sensibility/sensibl triplicate/triplic "
        "formative/format formalize/formal electrical/electr goodness/good revival/reviv "
        "allowance/allow inference/infer adjustable/adjust irritant/irrit replacement/replac "
        "adoption/adopt communism activate/activ angularity/angular effective/effect "
        "bowdlerize/bowdler dying/die skies/sky generic organization/organiz "
        "university/universiti communication/communic proceeds/proceed succeeded/succeed "
        "news herring inning atlas cosmos"
    ),
    "finnish": (
        "taloissa/talo kirjojen/kirj kauniimpia/kauniimp ihmisillekin/ihmis "
        "kaupungista/kaupung juoksemassa/juoksem opettajat/opettaj "
        "mahdollisuuksia/mahdollisuuks lapsiensa/lapsie kirjoittanut/kirjoittanu "
        "vapaudesta/vapaud eiväthen/eiväth"
    ),
    "french": (
        "chevaux/cheval continuellement/continuel nationalité/national mangeaient/mang "
        "heureusement/heureux livres/livr travailleurs/travailleur possibilités/possibil "
        "finissons/fin importance/import amoureuses/amour développement/développ "
        "actrices/actric"
    ),
    "german": (
        "häuser/haus bücher/buch schönste/schon möglichkeiten/moglich arbeiterinnen/arbeit "
        "laufenden/laufend kinder/kind freiheiten/freiheit geschrieben/geschrieb "
        "freundlichkeit/freundlich wirtschaftlichen/wirtschaft lehrern/lehr"
    ),
    "greek": (
        "βιβλία/βιβλ ανθρώπων/ανθρωπ σπίτια/σπιτ γράφουμε/γραφ εργαζόμενοι/εργαζομεν "
        "ελευθερίας/ελευθερι μεγαλύτερος/μεγαλ παιδιά/πα δασκάλων/δασκαλ πόλεις/πολ "
        "όμορφες/ομορφ τραγουδώντας/τραγουδ"
    ),
    "hindi": (
        "किताबें/किताब लड़कियों/लड़क घरों/घर लिखते/लिख बच्चों/बच्च जाएगा/ज सुंदरता/सुंदर "
        "विद्यार्थियों/विद्यार्थ खेलना/खेल भाषाओं/भाष नदियाँ/नद करेंगे/कर"
    ),
    "hungarian": (
        "házakban/ház könyveket/könyv gyerekeknek/gyerek szépségek/szépség tanítóval/tanító "
        "szabadságért/szabadság emberekhez/ember városokból/város írtam/írt legnagyobb "
        "lehetőségeink/lehetőség autóknál/autó"
    ),
    "indonesian": (
        "membacakan/baca pembelajaran/ajar bukunya/buku dituliskan/tulis perumahan/umah "
        "anak-anak kebebasan/bebas mempermainkan/main penulisan/ulis makanlah/makan "
        "terbesar/besar sekolahku/sekolah"
    ),
    "irish": (
        "leabhair daoine scríobhann tithe múinteoirí saoirseachta bhfear/fear "
        "gcathair/cathair thógáil/tóg páistí obair cathracha"
    ),
    "italian": (
        "lavoratori/lavor velocemente/veloc nazionalità/nazional mangiavano/mang "
        "possibilità/possibil libri/libr scrivendo/scriv bellissime/bellissim "
        "importanza/import abbandonata/abbandon parlargli/parl amicizie/amiciz"
    ),
    "lithuanian": (
        "knygomis/knyg namuose/nam mokytojai/mok vaikams/vaik gražiausias/graž laisvės/laisv "
        "rašydamas/rašy miestuose/miest žmonių/žmon darbuotojas/darb galimybių/galimyb "
        "merginoms/mergin"
    ),
    "nepali": (
        "किताबहरू/किताब घरहरूमा/घर केटाकेटीलाई/केटाकेटी लेख्दै/लेख् मानिसहरूको/मानिस "
        "गर्नेछन्/गर् विद्यार्थीले/विद्यार् भाषाबाट जान्छन्/जान् नेपालीहरू/नेपाली"
    ),
    "norwegian": (
        "bøkene/bøk husene/hus arbeiderne/arbeidern kjærligheten/kjær løpende/løp "
        "vakreste/vakrest undervisningen/undervisning barnas/barn friheter/frihet "
        "mulighetene/mul skriver/skriv viktigste/viktigst"
    ),
    "portuguese": (
        "trabalhadores/trabalh rapidamente/rapid nacionalidade/nacional comíamos/com "
        "possibilidades/possibil livros/livr escrevendo/escrev belíssimas/belíssim "
        "importância/import canções/cançõ falaram/fal amigáveis/amig"
    ),
    "romanian": (
        "cărțile/cărț casele/cas lucrătorilor/lucrat frumusețea/frumuseț scriau "
        "posibilități/posibil naționalitate/național repede/reped copiilor/cop "
        "învățătoare/învăț libertatea/libert cântând/cânt"
    ),
    "russian": (
        "книгами/книг домов/дом работающих/работа красивейший/красив возможности/возможн "
        "написанные/написа детей/дет учителями/учител свободой/свобод бегающая/бега "
        "национальность/национальн городах/город"
    ),
    "serbian": (
        "knjigama/knjig kućama/kuć radnicima/radnik najlepši/najlepš mogućnosti/mogućnost "
        "pisanje/pisanj deteta/detet učiteljica/učiteljic slobodom/slobod gradovima/gradov "
        "trčeći/trčeć ljudske/ljudsk"
    ),
    "spanish": (
        "trabajadores/trabaj rápidamente/rapid nacionalidad/nacional comíamos/com "
        "posibilidades/posibil libros/libr escribiendo/escrib bellísimas/bellisim "
        "importancia/import canciones/cancion hablaron/habl amigable/amig"
    ),
    "swedish": (
        "böckerna/böck husen/hus arbetarna/arbet kärleken/kärlek löpande/löp vackraste/vackr "
        "undervisningen/undervisning barnens/barn friheter/frihet möjligheterna/möj "
        "skriver/skriv viktigaste/vikt"
    ),
    "tamil": (
        "புத்தகங்கள்/புத்தகம் வீடுகளில்/வீடு மனிதர்களுக்கு/மனிதர்கள் எழுதினான்/எழுதி "
        "குழந்தைகளின்/குழந்தை பள்ளிக்கூடம் மொழியில்/மொழி நகரத்திலிருந்து/நகரத்தில் "
        "அழகான/அழகா வருகிறார்கள்/வரு"
    ),
    "turkish": (
        "kitaplarda/kitap evlerimizden/ev çalışanların/çalışa güzellikler/güzellik "
        "çocuklara/çocuk özgürlüğümüz/özgürlük yazıyorlardı/yazıyor öğretmenim/öğretme "
        "şehirlerdeki/şehir olasılıkları/olasılık koşarken/koşar gidecekler/gidecek"
    ),
    "yiddish": (
        "ביכער/ביכ הייזער/הײז מענטשן/מענטש קינדערלעך/קינדער שרייבן/שרײב שענסטער/שענ "
        "לערערס/לער פרייהייט/פרײ געשריבן/שרײב מעגלעכקייטן/מעגלעכקײ גייענדיק/גײענדיק "
        "שטעטלעך/שטעט"
    ),
}

# CRC-32 of the stems of `stemming.probes` of these words, joined by line ends.
CHECKSUMS = {
    "arabic": 0x19AFF39A,
    "armenian": 0xADCF14AA,
    "basque": 0x733E5367,
    "catalan": 0x9B46D8E9,
    "danish": 0x8925B458,
    "dutch": 0x28AA8AE5,
    "english": 0xCC2FD953,
    "finnish": 0xC7528150,
    "french": 0xEDA5D3AE,
    "german": 0x1EE78D73,
    "greek": 0x103945E0,
    "hindi": 0x30E10C8A,
    "hungarian": 0x65888354,
    "indonesian": 0x89434B94,
    "irish": 0xBC594683,
    "italian": 0x296F61DC,
    "lithuanian": 0x2E2C7616,
    "nepali": 0x0B75CB77,
    "norwegian": 0x55BCED37,
    "portuguese": 0xF7039CCE,
    "romanian": 0xA5450129,
    "russian": 0x0CFDA6FB,
    "serbian": 0x340B089C,
    "spanish": 0x0F377041,
    "swedish": 0x2BEC98D4,
    "tamil": 0xDEF10949,
    "turkish": 0x5DD50D83,
    "yiddish": 0x6718F14C,
}
