"""The cities of the synthetic geography: real names and places, invented addresses.

Enters: nothing. Leaves: ``CITIES``, in a fixed order (a city's position decides its address block, so new
cities go at the end). Layer: sources (the simulator's ground floor; pure data).
"""

from __future__ import annotations

from typing import NamedTuple


class City(NamedTuple):
    """A city: where it is, which clock it keeps, and how many of the simulated users live there."""

    name: str
    country_iso_code: str
    latitude: float
    longitude: float
    zone: str
    weight: float


# weight | country | zone | name latitude longitude; ...
# Two thirds of the weight is in the US, as in the workshop's data: "WHOA! THERE ARE PEOPLE OUTSIDE THE US!?"
_TEXT = """
9 US America/New_York New York:40.71:-74.01; Boston:42.36:-71.06; Philadelphia:39.95:-75.17; Washington:38.91:-77.04
4 US America/New_York Atlanta:33.75:-84.39; Miami:25.76:-80.19; Charlotte:35.23:-80.84; Pittsburgh:40.44:-80.00
3 US America/New_York Orlando:28.54:-81.38; Columbus:39.96:-83.00; Raleigh:35.78:-78.64; Buffalo:42.89:-78.88
4 US America/Detroit Detroit:42.33:-83.05
6 US America/Chicago Chicago:41.88:-87.63; Houston:29.76:-95.37; Dallas:32.78:-96.80; Austin:30.27:-97.74
3 US America/Chicago Minneapolis:44.98:-93.27; St. Louis:38.63:-90.20; Nashville:36.16:-86.78; New Orleans:29.95:-90.07
5 US America/Denver Denver:39.74:-104.99; Salt Lake City:40.76:-111.89; Albuquerque:35.08:-106.65
4 US America/Phoenix Phoenix:33.45:-112.07
1 US America/Boise Boise:43.62:-116.20
7 US America/Los_Angeles Los Angeles:34.05:-118.24; San Francisco:37.77:-122.42; Seattle:47.61:-122.33
4 US America/Los_Angeles San Diego:32.72:-117.16; Portland:45.52:-122.68; Las Vegas:36.17:-115.14
1 US America/Anchorage Anchorage:61.22:-149.90
1 US Pacific/Honolulu Honolulu:21.31:-157.86
2 CA America/Toronto Toronto:43.65:-79.38; Ottawa:45.42:-75.70; Montréal:45.50:-73.57
1 CA America/Vancouver Vancouver:49.28:-123.12
1 CA America/Edmonton Calgary:51.05:-114.07
0.5 CA America/Halifax Halifax:44.65:-63.58
0.3 CA America/St_Johns St. John's:47.56:-52.71
1 MX America/Mexico_City Mexico City:19.43:-99.13; Guadalajara:20.67:-103.35; Puebla:19.04:-98.21
1 BR America/Sao_Paulo São Paulo:-23.55:-46.63; Rio de Janeiro:-22.91:-43.17; Brasília:-15.79:-47.88
0.5 AR America/Argentina/Buenos_Aires Buenos Aires:-34.60:-58.38
0.5 CL America/Santiago Santiago:-33.45:-70.67
0.5 CO America/Bogota Bogotá:4.71:-74.07; Medellín:6.24:-75.58
0.4 PE America/Lima Lima:-12.05:-77.04
3 GB Europe/London London:51.51:-0.13; Manchester:53.48:-2.24; Birmingham:52.48:-1.90; Edinburgh:55.95:-3.19
1 IE Europe/Dublin Dublin:53.35:-6.26; Cork:51.90:-8.47
1 FR Europe/Paris Paris:48.86:2.35; Lyon:45.76:4.84; Marseille:43.30:5.37; Toulouse:43.60:1.44
2 DE Europe/Berlin Berlin:52.52:13.40; Hamburg:53.55:9.99; München:48.14:11.58; Köln:50.94:6.96
1 DE Europe/Berlin Frankfurt:50.11:8.68; Stuttgart:48.78:9.18; Leipzig:51.34:12.37
0.7 NL Europe/Amsterdam Amsterdam:52.37:4.90; Rotterdam:51.92:4.48
0.6 BE Europe/Brussels Brussels:50.85:4.35; Antwerp:51.22:4.40
0.6 CH Europe/Zurich Zürich:47.38:8.54; Genève:46.20:6.14
0.6 AT Europe/Vienna Wien:48.21:16.37; Graz:47.07:15.44
0.8 ES Europe/Madrid Madrid:40.42:-3.70; Barcelona:41.39:2.17; Sevilla:37.39:-5.98
0.5 PT Europe/Lisbon Lisboa:38.72:-9.14; Porto:41.16:-8.63
0.8 IT Europe/Rome Roma:41.90:12.50; Milano:45.46:9.19; Torino:45.07:7.69
0.5 SE Europe/Stockholm Stockholm:59.33:18.07; Göteborg:57.71:11.97
0.5 NO Europe/Oslo Oslo:59.91:10.75
0.5 DK Europe/Copenhagen København:55.68:12.57
0.5 FI Europe/Helsinki Helsinki:60.17:24.94
0.7 PL Europe/Warsaw Warszawa:52.23:21.01; Kraków:50.06:19.94
0.5 CZ Europe/Prague Praha:50.08:14.44; Brno:49.20:16.61
0.4 RO Europe/Bucharest București:44.43:26.10
0.4 GR Europe/Athens Athina:37.98:23.73
0.4 TR Europe/Istanbul Istanbul:41.01:28.98
0.3 UA Europe/Kyiv Kyiv:50.45:30.52
0.3 IL Asia/Jerusalem Tel Aviv:32.09:34.78
0.3 AE Asia/Dubai Dubai:25.20:55.27
0.3 EG Africa/Cairo Cairo:30.04:31.24
0.4 NG Africa/Lagos Lagos:6.52:3.38
0.3 KE Africa/Nairobi Nairobi:-1.29:36.82
0.4 ZA Africa/Johannesburg Johannesburg:-26.20:28.05; Cape Town:-33.92:18.42
1 IN Asia/Kolkata Mumbai:19.08:72.88; Delhi:28.61:77.21; Bengaluru:12.97:77.59; Chennai:13.08:80.27
0.2 NP Asia/Kathmandu Kathmandu:27.72:85.32
0.3 PK Asia/Karachi Karachi:24.86:67.01
0.4 SG Asia/Singapore Singapore:1.35:103.82
0.3 TH Asia/Bangkok Bangkok:13.76:100.50
0.3 VN Asia/Ho_Chi_Minh Hanoi:21.03:105.85
0.3 ID Asia/Jakarta Jakarta:-6.21:106.85
0.3 PH Asia/Manila Manila:14.60:120.98
0.6 JP Asia/Tokyo Tokyo:35.68:139.69; Osaka:34.69:135.50; Sapporo:43.06:141.35
0.4 KR Asia/Seoul Seoul:37.57:126.98
0.3 TW Asia/Taipei Taipei:25.03:121.57
0.3 HK Asia/Hong_Kong Hong Kong:22.32:114.17
0.6 AU Australia/Sydney Sydney:-33.87:151.21
0.4 AU Australia/Melbourne Melbourne:-37.81:144.96
0.3 AU Australia/Adelaide Adelaide:-34.93:138.60
0.3 AU Australia/Perth Perth:-31.95:115.86
0.4 NZ Pacific/Auckland Auckland:-36.85:174.76; Wellington:-41.29:174.78
"""


def _parse() -> tuple[City, ...]:
    cities: list[City] = []
    for line in _TEXT.strip().splitlines():
        weight, country, zone, places = line.split(" ", 3)
        for place in places.split("; "):
            name, latitude, longitude = place.split(":")
            cities.append(City(name, country, float(latitude), float(longitude), zone, float(weight)))
    return tuple(cities)


CITIES: tuple[City, ...] = _parse()
